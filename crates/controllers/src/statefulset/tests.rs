//! StatefulSets step by step.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::identity;
use super::plan::{Action, Observed, Plan, Revision, plan};
use crate::common::pods;
use crate::common::testing::{at, object};

fn set(spec: Value) -> StatefulSet {
    let mut whole = json!({"replicas": 3, "serviceName": "svc", "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": []}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}});
    for (name, value) in spec.as_object().unwrap() {
        whole[name] = value.clone();
    }
    object(json!({"metadata": {"name": "db", "namespace": "ns", "uid": "s", "generation": 1}, "spec": whole}))
}

/// A pod in the words of a test: ordinal, revision, and `ready`, `pending`, `failed` or `leaving`.
fn pod(set: &StatefulSet, ordinal: i32, revision: &str, state: &str) -> Arc<Pod> {
    let mut pod = identity::new_pod(set, &set.spec.as_ref().unwrap().template, revision, ordinal);
    pod.metadata.uid = Some(format!("u{ordinal}{revision}"));
    let status = match state {
        "ready" | "leaving" => json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}),
        "failed" => json!({"phase": "Failed"}),
        _ => json!({"phase": "Pending"}),
    };
    pod.status = Some(object(status));
    if state == "leaving" {
        pod.metadata.deletion_timestamp = crate::common::time::time(at("2026-01-01T00:00:00Z"));
    }
    Arc::new(pod)
}

fn run(set: &StatefulSet, pods: &[(i32, &str, &str)]) -> Plan {
    let pods: Vec<Arc<Pod>> = pods.iter().map(|(o, r, s)| pod(set, *o, r, s)).collect();
    let template = set.spec.as_ref().unwrap().template.clone();
    let revision = |name: &str| Revision { name: name.to_owned(), template: template.clone() };
    let observed = Observed {
        set,
        pods: &pods,
        current: revision("r1"),
        update: revision("r2"),
        collision_count: None,
        claim: &|_| None,
        now: at("2026-01-01T01:00:00Z"),
    };
    plan(&observed).unwrap()
}

fn words(plan: &Plan) -> String {
    let word = |action: &Action| match action {
        Action::Create(pod, claims) => format!("+{}{}", pods::name(pod), "c".repeat(claims.len())),
        Action::CreateClaims(pod, _) => format!("claims of {}", pods::name(pod)),
        Action::Delete(pod, _) => format!("-{}", pods::name(pod)),
        Action::Update(pod) => format!("~{}", pods::name(pod)),
        Action::UpdateClaim(_) => "claim".to_owned(),
    };
    plan.actions.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn pods_come_and_go_in_order() {
    let ordered = set(json!({}));
    let parallel = set(json!({"podManagementPolicy": "Parallel"}));
    let shifted = set(json!({"replicas": 2, "ordinals": {"start": 5}}));
    let with_claims = set(json!({"replicas": 1, "volumeClaimTemplates": [{"metadata": {"name": "data"}}]}));
    let one = set(json!({"replicas": 1}));
    let one_parallel = set(json!({"replicas": 1, "podManagementPolicy": "Parallel"}));
    let r2 = |o: i32, s: &'static str| (o, "r2", s);
    for (set, pods, expected) in [
        (&ordered, vec![], "+db-0"),
        (&ordered, vec![r2(0, "pending")], ""),
        (&ordered, vec![r2(0, "ready")], "+db-1"),
        (&ordered, vec![r2(0, "leaving"), r2(1, "ready")], ""),
        (&ordered, vec![r2(0, "failed"), r2(1, "ready")], "-db-0"),
        (&ordered, vec![r2(0, "ready"), r2(1, "ready"), r2(2, "ready")], ""),
        (&parallel, vec![], "+db-0 +db-1 +db-2"),
        (&parallel, vec![r2(1, "pending")], "+db-0 +db-2"),
        (&shifted, vec![], "+db-5"),
        (&shifted, vec![r2(5, "ready")], "+db-6"),
        (&with_claims, vec![], "+db-0c"),
        (&one, vec![r2(0, "ready"), r2(1, "ready"), r2(2, "ready")], "-db-2"),
        (&one, vec![r2(0, "ready"), r2(1, "ready"), r2(2, "leaving")], ""),
        (&one, vec![r2(0, "pending"), r2(1, "ready")], ""),
        (&one, vec![r2(0, "ready"), r2(1, "pending"), r2(2, "pending")], ""),
        (&one, vec![r2(0, "ready"), r2(1, "pending")], "-db-1"),
        (&one_parallel, vec![r2(0, "ready"), r2(1, "ready"), r2(2, "ready")], "-db-2 -db-1"),
    ] {
        assert_eq!(words(&run(set, &pods)), expected, "{pods:?}");
    }
}

#[test]
fn updates_go_down_to_the_partition() {
    let rolling = |r: Value| set(json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": r}}));
    let plain = rolling(json!({"partition": 0}));
    let two = rolling(json!({"maxUnavailable": 2}));
    let partition = rolling(json!({"partition": 2}));
    let on_delete = set(json!({"updateStrategy": {"type": "OnDelete"}}));
    let old = |o: i32, s: &'static str| (o, "r1", s);
    let new = |o: i32, s: &'static str| (o, "r2", s);
    for (set, pods, expected) in [
        (&plain, vec![old(0, "ready"), old(1, "ready"), old(2, "ready")], "-db-2"),
        (&plain, vec![old(0, "ready"), old(1, "ready"), old(2, "leaving")], ""),
        (&plain, vec![old(0, "ready"), old(1, "ready")], "+db-2"),
        (&plain, vec![old(0, "ready"), old(1, "ready"), new(2, "pending")], ""),
        (&plain, vec![old(0, "ready"), old(1, "ready"), new(2, "ready")], "-db-1"),
        (&two, vec![old(0, "ready"), old(1, "ready"), old(2, "ready")], "-db-2 -db-1"),
        (&partition, vec![old(0, "ready"), old(1, "ready"), new(2, "ready")], ""),
        (&on_delete, vec![old(0, "ready"), old(1, "ready"), old(2, "ready")], ""),
    ] {
        assert_eq!(words(&run(set, &pods)), expected, "{pods:?}");
    }
    // A pod below the partition that is lost comes back as it was.
    let plan = run(&partition, &[old(0, "ready"), new(2, "ready")]);
    let Action::Create(made, _) = &plan.actions[0] else { panic!() };
    assert_eq!(made.metadata.labels.as_ref().unwrap()["controller-revision-hash"], "r1");
}

#[test]
fn the_status_counts_revisions() {
    let set = set(json!({}));
    let status = run(&set, &[(0, "r1", "ready"), (1, "r1", "ready"), (2, "r2", "ready")]).status;
    assert_eq!(
        serde_json::to_value(&status).unwrap(),
        json!({"observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "currentReplicas": 1,
            "updatedReplicas": 1, "currentRevision": "r1", "updateRevision": "r2", "collisionCount": 0}),
        "db-1 is being deleted"
    );
    let done = run(&set, &[(0, "r2", "ready"), (1, "r2", "ready"), (2, "r2", "ready")]).status;
    assert_eq!((done.current_revision.as_deref(), done.current_replicas), (Some("r2"), Some(3)));
}
