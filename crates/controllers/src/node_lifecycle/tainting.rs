//! The taints that a node's conditions ask for.

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::jiff::Timestamp;

use super::health::ready_status;
use crate::common::{conditions, taints, time};

/// The taints that follow from conditions: condition, its status, taint.
const CONDITION_TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", taints::NOT_READY),
    ("Ready", "Unknown", taints::UNREACHABLE),
    ("MemoryPressure", "True", taints::MEMORY_PRESSURE),
    ("DiskPressure", "True", taints::DISK_PRESSURE),
    ("NetworkUnavailable", "True", taints::NETWORK_UNAVAILABLE),
    ("PIDPressure", "True", taints::PID_PRESSURE),
];

/// Whether pods of a node that is not ready may be made to leave now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// They may.
    Allowed,
    /// Others go first; taints that are there stay.
    Later,
    /// No node is ready: the fault is elsewhere, and nobody is made to leave.
    Off,
}

/// The key of the NoExecute taint that `node`'s readiness asks for.
pub fn eviction_taint(node: &Node) -> Option<&'static str> {
    match ready_status(node) {
        "True" => None,
        "False" => Some(taints::NOT_READY),
        _ => Some(taints::UNREACHABLE),
    }
}

/// True if `node` has the NoExecute taint that its readiness asks for, or needs none.
pub fn is_evicted(node: &Node) -> bool {
    let Some(key) = eviction_taint(node) else { return true };
    let wanted = taints::taint(key, taints::NO_EXECUTE);
    current(node).iter().any(|t| taints::same(t, &wanted))
}

fn current(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
}

/// The taints that `node` is to have; None if it has them.
pub fn plan(node: &Node, eviction: Eviction, now: Timestamp) -> Option<Vec<Taint>> {
    let mut wanted = condition_taints(node);
    let eviction_keys = [taints::NOT_READY, taints::UNREACHABLE];
    match (eviction, eviction_taint(node)) {
        (Eviction::Allowed, Some(key)) => wanted.push(taints::taint(key, taints::NO_EXECUTE)),
        (Eviction::Later, Some(key)) => {
            let there =
                |t: &&Taint| t.effect == taints::NO_EXECUTE && eviction_keys.contains(&t.key.as_str());
            if current(node).iter().any(|t| there(&t)) {
                wanted.push(taints::taint(key, taints::NO_EXECUTE));
            }
        }
        _ => {}
    }
    let is_ours = |t: &Taint| {
        let of_condition =
            CONDITION_TAINTS.iter().any(|(_, _, key)| *key == t.key) || t.key == taints::UNSCHEDULABLE;
        (t.effect == taints::NO_SCHEDULE && of_condition)
            || (t.effect == taints::NO_EXECUTE && eviction_keys.contains(&t.key.as_str()))
    };
    let mut result: Vec<Taint> = current(node)
        .iter()
        .filter(|t| !is_ours(t) || wanted.iter().any(|w| taints::same(w, t)))
        .cloned()
        .collect();
    for mut taint in wanted {
        if !result.iter().any(|t| taints::same(t, &taint)) {
            taint.time_added = time::time(now);
            result.push(taint);
        }
    }
    (result != current(node)).then_some(result)
}

fn condition_taints(node: &Node) -> Vec<Taint> {
    let list = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut wanted: Vec<Taint> = CONDITION_TAINTS
        .iter()
        .filter(|(kind, status, _)| conditions::find(list, kind).is_some_and(|c| c.status == *status))
        .map(|(_, _, key)| taints::taint(key, taints::NO_SCHEDULE))
        .collect();
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        wanted.push(taints::taint(taints::UNSCHEDULABLE, taints::NO_SCHEDULE));
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{at, object};
    use serde_json::json;

    #[test]
    fn conditions_and_unschedulable_become_taints() {
        let now = at("2026-01-01T00:00:00Z");
        let node = |ready: &str, taints: &[&str], unschedulable: bool| -> Node {
            let taints: Vec<_> = taints
                .iter()
                .map(|t| {
                    let (key, effect) = t.split_once(':').unwrap();
                    json!({"key": key, "effect": effect})
                })
                .collect();
            object(
                json!({"metadata": {"name": "n"}, "spec": {"taints": taints, "unschedulable": unschedulable},
                "status": {"conditions": [{"type": "Ready", "status": ready}, {"type": "DiskPressure", "status": "False"}]}}),
            )
        };
        let not_ready = "node.kubernetes.io/not-ready:NoSchedule";
        let unreachable = "node.kubernetes.io/unreachable:NoSchedule";
        for (node, eviction, expected) in [
            (node("True", &[], false), Eviction::Allowed, None),
            (node("True", &["custom:NoExecute"], false), Eviction::Allowed, None),
            (
                node("True", &[not_ready, "node.kubernetes.io/not-ready:NoExecute"], false),
                Eviction::Allowed,
                Some(vec![]),
            ),
            (
                node("True", &[], true),
                Eviction::Allowed,
                Some(vec!["node.kubernetes.io/unschedulable:NoSchedule"]),
            ),
            (node("False", &[], false), Eviction::Later, Some(vec![not_ready])),
            (
                node("False", &[], false),
                Eviction::Allowed,
                Some(vec![not_ready, "node.kubernetes.io/not-ready:NoExecute"]),
            ),
            (
                node("Unknown", &["node.kubernetes.io/not-ready:NoExecute"], false),
                Eviction::Later,
                Some(vec![unreachable, "node.kubernetes.io/unreachable:NoExecute"]),
            ),
            (
                node("Unknown", &[unreachable, "node.kubernetes.io/unreachable:NoExecute"], false),
                Eviction::Off,
                Some(vec![unreachable]),
            ),
        ] {
            let planned = plan(&node, eviction, now)
                .map(|all| all.iter().map(|t| format!("{}:{}", t.key, t.effect)).collect::<Vec<_>>());
            let expected = expected.map(|all| all.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(planned, expected, "{node:?} {eviction:?}");
        }
    }
}
