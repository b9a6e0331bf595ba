//! Whether a node is heard of, and what is said of it when it is not.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus};
use k8s_openapi::jiff::Timestamp;

use crate::common::{conditions, time};

/// The conditions that only the kubelet can know.
const KUBELET_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// How long nodes may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Grace {
    /// A node whose kubelet has reported.
    pub running: Duration,
    /// A node that has just appeared.
    pub starting: Duration,
}

/// What comes of looking at a node.
#[derive(Debug, PartialEq)]
pub enum Health {
    /// It was heard of; look again after this.
    Fresh(Duration),
    /// It is silent, and its status says so.
    Silent,
    /// It is silent, and this status has to be written.
    Lost(Box<NodeStatus>),
}

/// `Ready` as the status has it: True, False, Unknown; Unknown if there is none.
pub fn ready_status(node: &Node) -> &str {
    let list = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions::find(list, "Ready").map_or("Unknown", |c| c.status.as_str())
}

/// Judges a node that was last heard of `silent_for` ago.
pub fn judge(node: &Node, silent_for: Duration, grace: Grace, now: Timestamp) -> Health {
    let list = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let known = conditions::find(list, "Ready").is_some();
    let allowed = if known { grace.running } else { grace.starting };
    if silent_for < allowed {
        return Health::Fresh(allowed - silent_for);
    }
    let mut status = node.status.clone().unwrap_or_default();
    let list = status.conditions.get_or_insert_default();
    let mut changed = false;
    for kind in KUBELET_CONDITIONS {
        match list.iter_mut().find(|c| c.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = time::time(now);
                changed = true;
            }
            None => {
                list.push(NodeCondition {
                    type_: kind.to_owned(),
                    status: "Unknown".to_owned(),
                    reason: Some("NodeStatusNeverUpdated".to_owned()),
                    message: Some("Kubelet never posted node status.".to_owned()),
                    last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                    last_transition_time: time::time(now),
                });
                changed = true;
            }
        }
    }
    if changed { Health::Lost(Box::new(status)) } else { Health::Silent }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{at, object};
    use serde_json::{Value, json};

    #[test]
    fn silence_makes_conditions_unknown() {
        let grace = Grace { running: Duration::from_secs(50), starting: Duration::from_secs(60) };
        let node = |conditions: Value| -> Node {
            object(json!({"metadata": {"name": "n"}, "status": {"conditions": conditions}}))
        };
        let ready = node(json!([{"type": "Ready", "status": "True"}]));
        let now = at("2026-01-01T00:00:00Z");
        let judged = |node: &Node, s| judge(node, Duration::from_secs(s), grace, now);
        assert_eq!(judged(&ready, 20), Health::Fresh(Duration::from_secs(30)));
        assert_eq!(judged(&node(json!([])), 55), Health::Fresh(Duration::from_secs(5)));
        let Health::Lost(status) = judged(&ready, 50) else { panic!() };
        let said: Vec<(String, String)> = status
            .conditions
            .iter()
            .flatten()
            .map(|c| (c.type_.clone(), c.reason.clone().unwrap()))
            .collect();
        assert_eq!(said[0], ("Ready".to_owned(), "NodeStatusUnknown".to_owned()));
        assert_eq!(said[1], ("MemoryPressure".to_owned(), "NodeStatusNeverUpdated".to_owned()));
        let lost = Node { status: Some(*status), ..ready };
        assert_eq!(judged(&lost, 50), Health::Silent);
    }
}
