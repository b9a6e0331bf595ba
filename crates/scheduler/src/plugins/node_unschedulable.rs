//! NodeUnschedulable: a cordoned node takes only pods that tolerate it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Taint;

use super::taint_toleration::tolerates;
use crate::framework::{Action, ClusterEvent, CycleState, Filter, Plugin, Points, Resource, Status, Verdict};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// The taint that stands for `spec.unschedulable`.
const TAINT: &str = "node.kubernetes.io/unschedulable";

/// Looks at `spec.unschedulable` of nodes.
pub struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn points(self: Arc<Self>) -> Points {
        Points { filter: Some(self), ..Points::default() }
    }

    fn events(&self) -> Vec<ClusterEvent> {
        vec![
            ClusterEvent::new(Resource::Node, Action::ADD.or(Action::UPDATE_TAINT)),
            ClusterEvent::new(Resource::UnscheduledPod, Action::UPDATE_TOLERATION),
        ]
    }
}

impl Filter for NodeUnschedulable {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let taint = Taint { key: TAINT.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
        if !node.is_unschedulable() || tolerates(pod, &taint) {
            return Ok(());
        }
        Err(Status::unresolvable("node(s) were unschedulable"))
    }
}
