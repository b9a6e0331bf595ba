//! DaemonSets step by step.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::plan::{Observed, plan, status};
use super::pod::{new_pod, target_node, template};
use crate::common::pods;
use crate::common::testing::{at, object};

fn set(rolling: Value) -> DaemonSet {
    object(json!({"metadata": {"name": "ds", "namespace": "ns", "uid": "d", "generation": 1}, "spec": {
        "selector": {"matchLabels": {"a": "b"}}, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [], "nodeSelector": {"role": "worker"}}}}}))
}

fn node(name: &str, taints: Value) -> Arc<Node> {
    let role = if name.starts_with('w') { "worker" } else { "other" };
    Arc::new(object(
        json!({"metadata": {"name": name, "labels": {"role": role}}, "spec": {"taints": taints}}),
    ))
}

/// A pod in the words of a test: node, hash, `ready`, `pending`, `failed`.
fn pod(set: &DaemonSet, name: &str, on: &str, hash: &str, state: &str) -> Arc<Pod> {
    let mut pod = new_pod(set, &template(set, hash), on);
    pod.metadata.name = Some(name.to_owned());
    pod.metadata.uid = Some(name.to_owned());
    if state != "unbound" {
        pod.spec.as_mut().unwrap().node_name = Some(on.to_owned());
    }
    pod.status = Some(object(match state {
        "ready" => json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
        "failed" => json!({"phase": "Failed"}),
        _ => json!({"phase": "Pending"}),
    }));
    Arc::new(pod)
}

fn run(set: &DaemonSet, pods: Vec<Arc<Pod>>, nodes: &[Arc<Node>]) -> String {
    let observed = Observed::new(set, pods, nodes, "new", at("2026-01-01T01:00:00Z"));
    let planned = plan(&observed, |_| None).unwrap();
    let mut words: Vec<String> = planned.create.iter().map(|n| format!("+{n}")).collect();
    words.extend(planned.delete.iter().map(|p| format!("-{}", pods::name(p))));
    words.join(" ")
}

#[test]
fn every_fitting_node_has_one_pod() {
    let set = set(json!({"maxUnavailable": 1}));
    let taint = |effect: &str| json!([{"key": "custom", "effect": effect}]);
    let unready = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]);
    let p = |name: &str, on: &str, state: &str| pod(&set, name, on, "new", state);
    for (nodes, pods, expected) in [
        (vec![node("w1", json!([])), node("w2", json!([])), node("x", json!([]))], vec![], "+w1 +w2"),
        (vec![node("w1", unready)], vec![], "+w1"),
        (vec![node("w1", taint("NoSchedule"))], vec![], ""),
        (vec![node("w1", taint("NoSchedule"))], vec![p("a", "w1", "ready")], ""),
        (vec![node("w1", taint("NoExecute"))], vec![p("a", "w1", "ready")], "-a"),
        (vec![node("x", json!([]))], vec![p("a", "x", "ready")], "-a"),
        (vec![node("w1", json!([]))], vec![p("a", "w1", "ready"), p("b", "w1", "ready")], "-b"),
        (vec![node("w1", json!([]))], vec![p("a", "w1", "failed")], "-a"),
        (vec![], vec![p("a", "w9", "unbound")], "-a"),
        (vec![], vec![p("a", "w9", "ready")], ""),
    ] {
        assert_eq!(run(&set, pods, &nodes), expected);
    }
    assert_eq!(target_node(&new_pod(&set, &template(&set, "new"), "w1")), Some("w1"));
}

#[test]
fn rolling_updates_keep_their_pace() {
    let nodes: Vec<Arc<Node>> = ["w1", "w2", "w3"].map(|n| node(n, json!([]))).into();
    let plain = set(json!({"maxUnavailable": 1}));
    let surge = set(json!({"maxSurge": 1, "maxUnavailable": 0}));
    for (set, pods, expected) in [
        (
            &plain,
            vec![("a", "w1", "old", "ready"), ("b", "w2", "old", "ready"), ("c", "w3", "old", "ready")],
            "-a",
        ),
        (
            &plain,
            vec![("a", "w1", "new", "pending"), ("b", "w2", "old", "ready"), ("c", "w3", "old", "ready")],
            "",
        ),
        (
            &plain,
            vec![("a", "w1", "new", "ready"), ("b", "w2", "old", "pending"), ("c", "w3", "old", "ready")],
            "-b",
        ),
        (
            &surge,
            vec![("a", "w1", "old", "ready"), ("b", "w2", "old", "ready"), ("c", "w3", "old", "ready")],
            "+w1",
        ),
        (
            &surge,
            vec![
                ("a", "w1", "old", "ready"),
                ("d", "w1", "new", "pending"),
                ("b", "w2", "old", "ready"),
                ("c", "w3", "old", "ready"),
            ],
            "",
        ),
        (
            &surge,
            vec![
                ("a", "w1", "old", "ready"),
                ("d", "w1", "new", "ready"),
                ("b", "w2", "old", "ready"),
                ("c", "w3", "old", "ready"),
            ],
            "-a",
        ),
    ] {
        let made = pods.iter().map(|(name, on, hash, state)| pod(set, name, on, hash, state)).collect();
        assert_eq!(run(set, made, &nodes), expected, "{pods:?}");
    }
}

#[test]
fn failed_pods_are_not_replaced_at_once_for_ever() {
    let set = set(json!({"maxUnavailable": 1}));
    let pods = vec![pod(&set, "a", "w1", "new", "failed")];
    let nodes = [node("w1", json!([]))];
    let observed = Observed::new(&set, pods, &nodes, "new", at("2026-01-01T01:00:00Z"));
    let planned = plan(&observed, |_| Some(Duration::from_secs(3))).unwrap();
    assert_eq!((planned.delete.len(), planned.requeue), (0, Some(Duration::from_secs(3))));
}

#[test]
fn the_status_counts_nodes() {
    let set = set(json!({"maxUnavailable": 1}));
    let nodes: Vec<Arc<Node>> = ["w1", "w2", "x"].map(|n| node(n, json!([]))).into();
    let pods = vec![pod(&set, "a", "w1", "new", "ready"), pod(&set, "b", "x", "old", "ready")];
    let observed = Observed::new(&set, pods, &nodes, "new", at("2026-01-01T01:00:00Z"));
    assert_eq!(
        serde_json::to_value(status(&observed, None)).unwrap(),
        json!({"desiredNumberScheduled": 2, "currentNumberScheduled": 1, "numberMisscheduled": 1, "numberReady": 1,
            "numberAvailable": 1, "numberUnavailable": 1, "updatedNumberScheduled": 1, "observedGeneration": 1})
    );
}
