//! NodeName: a pod that names its node runs there or nowhere.

use std::sync::Arc;

use crate::framework::{Action, ClusterEvent, CycleState, Filter, Plugin, Points, Resource, Status, Verdict};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// Compares `spec.nodeName`.
pub struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn points(self: Arc<Self>) -> Points {
        Points { filter: Some(self), ..Points::default() }
    }

    fn events(&self) -> Vec<ClusterEvent> {
        vec![ClusterEvent::new(Resource::Node, Action::ADD)]
    }
}

impl Filter for NodeName {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        match pod.node_name() {
            Some(name) if name != node.name() => {
                Err(Status::unresolvable("node(s) didn't match the requested node name"))
            }
            _ => Ok(()),
        }
    }
}
