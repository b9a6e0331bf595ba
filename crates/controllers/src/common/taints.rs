//! Taints of nodes and who tolerates them.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// The node's kubelet says it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The node's kubelet says nothing.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// `spec.unschedulable` of the node.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Condition MemoryPressure.
pub const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
/// Condition DiskPressure.
pub const DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
/// Condition PIDPressure.
pub const PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
/// Condition NetworkUnavailable.
pub const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";
/// Put on by whoever shuts a node down for good.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// New pods are not scheduled.
pub const NO_SCHEDULE: &str = "NoSchedule";
/// Running pods must go, too.
pub const NO_EXECUTE: &str = "NoExecute";

/// A taint without value.
pub fn taint(key: &str, effect: &str) -> Taint {
    Taint { key: key.to_owned(), effect: effect.to_owned(), ..Taint::default() }
}

/// True if both are the same taint: key and effect.
pub fn same(a: &Taint, b: &Taint) -> bool {
    a.key == b.key && a.effect == b.effect
}

/// True if `toleration` tolerates `taint`.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let set = |text: &Option<String>| text.as_deref().filter(|t| !t.is_empty()).map(str::to_owned);
    let effect_fits = set(&toleration.effect).is_none_or(|e| e == taint.effect);
    let key_fits = set(&toleration.key).is_none_or(|k| k == taint.key);
    let wanted = toleration.value.as_deref().unwrap_or_default();
    let found = taint.value.as_deref().unwrap_or_default();
    let numbers = || Some((found.parse::<i64>().ok()?, wanted.parse::<i64>().ok()?));
    let value_fits = match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => wanted == found,
        "Exists" => true,
        "Lt" => numbers().is_some_and(|(found, wanted)| found < wanted),
        "Gt" => numbers().is_some_and(|(found, wanted)| found > wanted),
        _ => false,
    };
    effect_fits && key_fits && value_fits
}

/// True if one of `tolerations` tolerates `taint`.
pub fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| tolerates(t, taint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;
    use serde_json::json;

    #[test]
    fn operators_and_empty_fields() {
        let on = taint(NOT_READY, NO_EXECUTE);
        for (toleration, expected) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": NOT_READY, "operator": "Exists", "effect": NO_EXECUTE}), true),
            (json!({"key": NOT_READY, "operator": "Exists", "effect": NO_SCHEDULE}), false),
            (json!({"key": NOT_READY, "value": "x"}), false),
            (json!({"key": NOT_READY}), true),
            (json!({"key": "other", "operator": "Exists"}), false),
        ] {
            assert_eq!(tolerates(&object(toleration.clone()), &on), expected, "{toleration}");
        }
    }
}
