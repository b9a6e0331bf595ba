//! Which pods nobody else will remove.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::common::{conditions, pods, taints};

/// Why a pod is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its node is gone; to be made sure of before.
    Orphaned,
    /// It was deleted before it had a node, so that no kubelet will finish that.
    Unscheduled,
    /// It was deleted on a node that is out of service for good.
    OutOfService,
}

impl Why {
    /// The text of the pod's condition DisruptionTarget; None if it gets none.
    pub fn disruption(self) -> Option<&'static str> {
        match self {
            Why::Orphaned => Some("PodGC: node no longer exists"),
            Why::OutOfService => Some("PodGC: node is out of service"),
            Why::Unscheduled => None,
        }
    }
}

/// Judges one pod. `node` is the node it is bound to, if that is known.
pub fn judge(pod: &Pod, node: Option<&Node>) -> Option<Why> {
    let leaving = pod.metadata.deletion_timestamp.is_some();
    match (pods::node_name(pod), node) {
        (None, _) => leaving.then_some(Why::Unscheduled),
        (Some(_), None) => Some(Why::Orphaned),
        (Some(_), Some(node)) => (leaving && is_out_of_service(node)).then_some(Why::OutOfService),
    }
}

fn is_out_of_service(node: &Node) -> bool {
    let list = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let tainted =
        node.spec.iter().flat_map(|s| s.taints.iter().flatten()).any(|t| t.key == taints::OUT_OF_SERVICE);
    tainted && !conditions::is_true(list, "Ready")
}

/// The finished pods above `threshold`: evicted ones first, then the oldest. A threshold of 0 keeps all.
pub fn surplus(all: Vec<Arc<Pod>>, threshold: usize) -> Vec<Arc<Pod>> {
    let mut finished: Vec<Arc<Pod>> = all
        .into_iter()
        .filter(|pod| pods::is_finished(pod) && pod.metadata.deletion_timestamp.is_none())
        .collect();
    let excess = finished.len().saturating_sub(threshold);
    if threshold == 0 || excess == 0 {
        return Vec::new();
    }
    finished.sort_by_key(|pod| {
        let evicted = pod.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("Evicted");
        (!evicted, pod.metadata.creation_timestamp.as_ref().map(|t| t.0), pods::name(pod).to_owned())
    });
    finished.truncate(excess);
    finished
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{object, pod};
    use serde_json::json;

    #[test]
    fn pods_that_nobody_else_removes() {
        let good: Node = object(json!({"metadata": {"name": "n"}}));
        let dead: Node = object(json!({"metadata": {"name": "n"},
            "spec": {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]}}));
        for (pod, node, expected) in [
            (pod("a").on("n"), Some(&good), None),
            (pod("a").on("n"), None, Some(Why::Orphaned)),
            (pod("a"), None, None),
            (pod("a").leaving(), None, Some(Why::Unscheduled)),
            (pod("a").on("n").leaving(), Some(&good), None),
            (pod("a").on("n").leaving(), Some(&dead), Some(Why::OutOfService)),
            (pod("a").on("n"), Some(&dead), None),
        ] {
            assert_eq!(judge(&pod.build(), node), expected);
        }
    }

    #[test]
    fn finished_pods_above_the_threshold() {
        let done = |name: &str, reason: &str| {
            Arc::new(pod(name).phase("Failed").with("/status", "reason", json!(reason)).build())
        };
        let all =
            || vec![done("old", ""), done("evicted", "Evicted"), Arc::new(pod("runs").running().build())];
        let names = |threshold| {
            surplus(all(), threshold).iter().map(|p| pods::name(p).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(0), [""; 0]);
        assert_eq!(names(1), ["evicted"]);
        assert_eq!(names(2), [""; 0]);
    }
}
