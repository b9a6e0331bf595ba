//! NodePorts: two pods cannot have the same port of a host.

use std::sync::Arc;

use crate::framework::{
    Action, ClusterEvent, CycleState, Filter, Plugin, Points, PreFilter, PreFilterResult, Resource, Status,
    Verdict,
};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;

/// Compares the host ports of pods.
pub struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn points(self: Arc<Self>) -> Points {
        Points { pre_filter: Some(self.clone()), filter: Some(self), ..Points::default() }
    }

    fn events(&self) -> Vec<ClusterEvent> {
        vec![
            ClusterEvent::new(Resource::AssignedPod, Action::DELETE),
            ClusterEvent::new(Resource::Node, Action::ADD),
        ]
    }
}

impl PreFilter for NodePorts {
    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: &Snapshot) -> Result<PreFilterResult, Status> {
        Ok(PreFilterResult { skip: pod.ports.is_empty(), nodes: None })
    }
}

impl Filter for NodePorts {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let taken = |wanted| node.ports().any(|used| used.conflicts(wanted));
        match pod.ports.iter().any(taken) {
            true => Err(Status::unschedulable("node(s) didn't have free ports for the requested pod ports")),
            false => Ok(()),
        }
    }
}
