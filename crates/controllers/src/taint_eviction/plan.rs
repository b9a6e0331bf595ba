//! How long a pod may stay on a node with its taints.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};

use crate::common::taints::{NO_EXECUTE, tolerates};

/// What becomes of a pod.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may stay for ever.
    Stay,
    /// It must go at once.
    Go,
    /// It may stay so long after its node was tainted.
    StayFor(Duration),
}

/// The verdict on a pod bound to `node`.
pub fn plan(pod: &Pod, node: &Node) -> Verdict {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
    let evicting: Vec<&Taint> = taints.iter().filter(|t| t.effect == NO_EXECUTE).collect();
    let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
    let mut shortest: Option<i64> = None;
    for taint in evicting {
        // Upstream takes the first toleration that fits a taint.
        let Some(toleration) = tolerations.iter().find(|t| tolerates(t, taint)) else { return Verdict::Go };
        if let Some(seconds) = toleration.toleration_seconds {
            shortest = Some(shortest.map_or(seconds, |s| s.min(seconds)));
        }
    }
    match shortest {
        None => Verdict::Stay,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds @ 1..) => Verdict::StayFor(Duration::from_secs(seconds)),
            _ => Verdict::Go,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{object, pod};
    use serde_json::{Value, json};

    #[test]
    fn tolerations_decide_how_long() {
        let node: Node = object(json!({"metadata": {"name": "n"}, "spec": {"taints": [
            {"key": "a", "effect": "NoExecute"}, {"key": "b", "effect": "NoExecute"}, {"key": "c", "effect": "NoSchedule"}]}}));
        let all = |seconds: Value| {
            json!([{"key": "a", "operator": "Exists", "tolerationSeconds": seconds},
            {"key": "b", "operator": "Exists", "tolerationSeconds": 300}])
        };
        for (tolerations, expected) in [
            (json!([]), Verdict::Go),
            (json!([{"key": "a", "operator": "Exists"}]), Verdict::Go),
            (json!([{"operator": "Exists"}]), Verdict::Stay),
            (all(json!(20)), Verdict::StayFor(Duration::from_secs(20))),
            (all(json!(null)), Verdict::StayFor(Duration::from_secs(300))),
            (all(json!(0)), Verdict::Go),
        ] {
            let pod = pod("p").with("/spec", "tolerations", tolerations.clone()).build();
            assert_eq!(plan(&pod, &node), expected, "{tolerations}");
        }
        let clean = Node::default();
        assert_eq!(plan(&pod("p").build(), &clean), Verdict::Stay);
    }
}
