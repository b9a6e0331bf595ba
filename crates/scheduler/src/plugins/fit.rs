//! NodeResourcesFit: a node must have what a pod requests; the one with the most left is the best (LeastAllocated).

use std::sync::Arc;

use crate::framework::{
    Action, ClusterEvent, Code, CycleState, Filter, MAX_NODE_SCORE, Plugin, Points, Resource, Score, Status,
    Verdict,
};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// Compares requests with what nodes have left.
pub struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn points(self: Arc<Self>) -> Points {
        Points { filter: Some(self.clone()), score: Some(self), ..Points::default() }
    }

    fn events(&self) -> Vec<ClusterEvent> {
        vec![
            ClusterEvent::new(Resource::AssignedPod, Action::DELETE.or(Action::SCALE_DOWN)),
            ClusterEvent::new(Resource::UnscheduledPod, Action::SCALE_DOWN),
            ClusterEvent::new(Resource::Node, Action::ADD.or(Action::UPDATE_ALLOCATABLE)),
        ]
    }
}

impl Filter for NodeResourcesFit {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let short = shortages(pod, node);
        if short.is_empty() {
            return Ok(());
        }
        // Where even an empty node is too small, nobody needs to be evicted in vain.
        let code = match short.iter().any(|s| s.wanted > s.capacity) {
            true => Code::UnschedulableAndUnresolvable,
            false => Code::Unschedulable,
        };
        Err(Status { code, reasons: short.into_iter().map(|s| s.reason).collect(), plugin: "" })
    }
}

/// A resource of which a node has too little.
struct Shortage {
    reason: String,
    wanted: i64,
    capacity: i64,
}

fn shortages(pod: &PodInfo, node: &NodeInfo) -> Vec<Shortage> {
    let mut found = Vec::new();
    let mut check = |reason: &str, wanted: i64, used: i64, capacity: i64| {
        if wanted > 0 && wanted > capacity - used {
            found.push(Shortage { reason: reason.to_owned(), wanted, capacity });
        }
    };
    let (request, used, has) = (&pod.requests, &node.requested, &node.allocatable);
    check("Too many pods", 1, node.pods.len() as i64, node.max_pods);
    check("Insufficient cpu", request.milli_cpu, used.milli_cpu, has.milli_cpu);
    check("Insufficient memory", request.memory, used.memory, has.memory);
    check(
        "Insufficient ephemeral-storage",
        request.ephemeral_storage,
        used.ephemeral_storage,
        has.ephemeral_storage,
    );
    for (name, wanted) in &request.scalars {
        let of = |amounts: &crate::pod_info::Amounts| amounts.scalars.get(name).copied().unwrap_or(0);
        check(&format!("Insufficient {name}"), *wanted, of(used), of(has));
    }
    found
}

impl Score for NodeResourcesFit {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let left = |wanted: i64, used: i64, has: i64| match has > 0 && used + wanted <= has {
            true => (has - used - wanted) * MAX_NODE_SCORE / has,
            false => 0,
        };
        let cpu = left(pod.nonzero.milli_cpu, node.nonzero.milli_cpu, node.allocatable.milli_cpu);
        let memory = left(pod.nonzero.memory, node.nonzero.memory, node.allocatable.memory);
        (cpu + memory) / 2
    }
}
