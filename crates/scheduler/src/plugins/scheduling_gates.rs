//! SchedulingGates: a pod with gates is not scheduled (KEP-3521).

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::framework::{Action, ClusterEvent, Plugin, Points, PreEnqueue, Resource, Status, Verdict};

/// Keeps pods with scheduling gates out of the active queue.
pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn points(self: Arc<Self>) -> Points {
        Points { pre_enqueue: Some(self), ..Points::default() }
    }

    fn events(&self) -> Vec<ClusterEvent> {
        vec![ClusterEvent::new(Resource::UnscheduledPod, Action::UPDATE_GATES)]
    }
}

impl PreEnqueue for SchedulingGates {
    fn pre_enqueue(&self, pod: &Pod) -> Verdict {
        let gates = pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_deref()).unwrap_or_default();
        if gates.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = gates.iter().map(|gate| gate.name.as_str()).collect();
        Err(Status::unresolvable(format!("waiting for scheduling gates: [{}]", names.join(" "))))
    }
}
