//! NodeResourcesBalancedAllocation: nodes whose CPU and memory are used evenly are better.

use std::sync::Arc;

use crate::framework::{CycleState, MAX_NODE_SCORE, Plugin, Points, PreScore, Score, Status};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// Scores by the spread of the used fractions.
pub struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn points(self: Arc<Self>) -> Points {
        Points { pre_score: Some(self.clone()), score: Some(self), ..Points::default() }
    }
}

impl PreScore for NodeResourcesBalancedAllocation {
    /// A pod that requests nothing does not change any balance.
    fn pre_score(&self, _: &mut CycleState, pod: &PodInfo, _: &[Arc<NodeInfo>]) -> Result<bool, Status> {
        Ok(pod.requests.milli_cpu == 0 && pod.requests.memory == 0)
    }
}

impl Score for NodeResourcesBalancedAllocation {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let fraction = |used: i64, has: i64| match has {
            0 => 0.0,
            has => (used as f64 / has as f64).min(1.0),
        };
        let cpu = fraction(node.requested.milli_cpu + pod.requests.milli_cpu, node.allocatable.milli_cpu);
        let memory = fraction(node.requested.memory + pod.requests.memory, node.allocatable.memory);
        // The standard deviation of two fractions is half their distance.
        ((1.0 - (cpu - memory).abs() / 2.0) * MAX_NODE_SCORE as f64) as i64
    }
}
