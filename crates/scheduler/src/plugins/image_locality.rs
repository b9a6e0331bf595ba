//! ImageLocality: nodes that have the pod's images already are better.

use std::sync::Arc;

use crate::framework::{CycleState, MAX_NODE_SCORE, Plugin, Points, Score};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// Below this sum of sizes a node gains nothing, above the other one nothing more per container (upstream's bytes).
const LOW: i64 = 23 * 1024 * 1024;
const HIGH_PER_CONTAINER: i64 = 1000 * 1024 * 1024;

/// Scores by the size of the images present.
pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn points(self: Arc<Self>) -> Points {
        Points { score: Some(self), ..Points::default() }
    }
}

impl Score for ImageLocality {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(spec) = pod.spec() else { return 0 };
        let images = node.node.status.as_ref().and_then(|s| s.images.as_deref()).unwrap_or_default();
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let wanted: Vec<&str> = containers.filter_map(|c| c.image.as_deref()).collect();
        let size = |name: &&str| {
            let has = |image: &&k8s_openapi::api::core::v1::ContainerImage| {
                image.names.iter().flatten().any(|n| n == name)
            };
            images.iter().find(has).and_then(|image| image.size_bytes).unwrap_or(0)
        };
        let high = HIGH_PER_CONTAINER * wanted.len().max(1) as i64;
        let present: i64 = wanted.iter().map(size).sum();
        MAX_NODE_SCORE * (present.clamp(LOW, high) - LOW) / (high - LOW)
    }
}
