//! Pods: they go down with a grace period.

use schema::Value;

use super::{Generic, Strategy};

/// Grace of pods that say nothing (`DefaultTerminationGracePeriodSeconds`).
const DEFAULT_GRACE_S: i64 = 30;

/// See the module.
pub struct Pods(pub Generic);

impl Strategy for Pods {
    fn generic(&self) -> &Generic {
        &self.0
    }

    /// Pods that are on no node, or are over, just go.
    fn graceful_seconds(&self, pod: &Value, asked: Option<i64>) -> Option<i64> {
        let own = pod.int_at("spec.terminationGracePeriodSeconds").unwrap_or(DEFAULT_GRACE_S);
        let mut period = asked.unwrap_or(own);
        if period < 0 {
            period = 1;
        }
        let assigned = pod.str_at("spec.nodeName").is_some_and(|n| !n.is_empty());
        let over = matches!(pod.str_at("status.phase"), Some("Failed" | "Succeeded"));
        Some(if assigned && !over { period } else { 0 })
    }
}
