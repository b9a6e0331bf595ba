//! Where pods may be that want company or distance.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::super::tests::profile;
use crate::framework::CycleState;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;

fn pod(name: &str, namespace: &str, labels: Value, affinity: Value) -> Arc<PodInfo> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "namespace": namespace, "labels": labels},
        "spec": {"containers": [{"name": "c"}], "affinity": affinity},
    }))
    .unwrap();
    Arc::new(PodInfo::new(Arc::new(pod)))
}

fn node(name: &str, zone: Option<&str>, pods: &[Arc<PodInfo>]) -> Arc<NodeInfo> {
    let mut labels = json!({"kubernetes.io/hostname": name});
    if let Some(zone) = zone {
        labels["zone"] = json!(zone);
    }
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "9"}},
    }))
    .unwrap();
    let mut info = NodeInfo::new(Arc::new(node));
    pods.iter().for_each(|pod| info.add_pod(pod.clone()));
    Arc::new(info)
}

fn term(app: &str, extra: Value) -> Value {
    let mut term = json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "zone"});
    term.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    term
}

fn must(kind: &str, terms: &[Value]) -> Value {
    json!({kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}})
}

/// What each node says to the pod: `ok` or its first reason.
fn verdicts(pod: &PodInfo, nodes: Vec<Arc<NodeInfo>>) -> Vec<String> {
    let (profile, mut state, snapshot) = (profile(), CycleState::default(), Snapshot::new(nodes));
    profile.run_pre_filter(&mut state, pod, &snapshot).unwrap();
    let verdict = |node: &Arc<NodeInfo>| match profile.run_filter(&state, pod, node) {
        Ok(()) => "ok".to_owned(),
        Err(status) => status.message(),
    };
    snapshot.nodes().iter().map(verdict).collect()
}

#[tokio::test]
async fn required_terms() {
    let (near, away, existing) = (super::AFFINITY, super::ANTI_AFFINITY, super::EXISTING);
    let db = pod("db", "d", json!({"app": "db"}), Value::Null);
    let shy = pod("shy", "d", json!({"app": "shy"}), must("podAntiAffinity", &[term("web", json!({}))]));
    let web = |affinity: Value| pod("p", "d", json!({"app": "web"}), affinity);
    let nodes = |pods: &[Arc<PodInfo>]| {
        vec![
            node("a", Some("1"), pods),
            node("b", Some("1"), &[]),
            node("c", Some("2"), &[]),
            node("d", None, &[]),
        ]
    };
    let other_namespace = json!({"namespaces": ["other"]});
    let all_namespaces = json!({"namespaceSelector": {}});
    let one_namespace = json!({"namespaceSelector": {"matchLabels": {"name": "d"}}});
    let table: Vec<(&str, Value, Arc<PodInfo>, [&str; 4])> = vec![
        ("near db", must("podAffinity", &[term("db", json!({}))]), db.clone(), ["ok", "ok", near, near]),
        (
            "away from db",
            must("podAntiAffinity", &[term("db", json!({}))]),
            db.clone(),
            [away, away, "ok", "ok"],
        ),
        ("near nobody", must("podAffinity", &[term("no", json!({}))]), db.clone(), [near; 4]),
        ("near itself", must("podAffinity", &[term("web", json!({}))]), db.clone(), ["ok", "ok", "ok", near]),
        ("elsewhere", must("podAffinity", &[term("db", other_namespace)]), db.clone(), [near; 4]),
        (
            "any namespace",
            must("podAffinity", &[term("db", all_namespaces)]),
            db.clone(),
            ["ok", "ok", near, near],
        ),
        ("by label", must("podAffinity", &[term("db", one_namespace)]), db, ["ok", "ok", near, near]),
        ("others are shy", Value::Null, shy, [existing, existing, "ok", "ok"]),
    ];
    for (name, affinity, running, expected) in table {
        assert_eq!(verdicts(&web(affinity), nodes(&[running])), expected, "{name}");
    }
}

#[tokio::test]
async fn preferred_terms_and_what_running_pods_want() {
    let wish = |kind: &str, weight: i64| {
        json!({kind: {"preferredDuringSchedulingIgnoredDuringExecution":
        [{"weight": weight, "podAffinityTerm": term("db", json!({}))}]}})
    };
    let db = pod("db", "d", json!({"app": "db"}), Value::Null);
    let follower = pod("f", "d", json!({}), must("podAffinity", &[term("web", json!({}))]));
    let score = |affinity: Value, running: &Arc<PodInfo>| {
        let nodes = vec![node("a", Some("1"), std::slice::from_ref(running)), node("b", Some("2"), &[])];
        let pod = pod("p", "d", json!({"app": "web"}), affinity);
        let plugin = super::InterPodAffinity::new(Arc::new(super::super::tests::Listed::default()));
        let mut state = CycleState::default();
        use crate::framework::{PreScore, Score};
        plugin.pre_score(&mut state, &pod, &nodes).unwrap();
        let mut scores: Vec<i64> = nodes.iter().map(|node| plugin.score(&state, &pod, node)).collect();
        plugin.normalize(&state, &pod, &mut scores);
        scores
    };
    assert_eq!(score(wish("podAffinity", 10), &db), [100, 0]);
    assert_eq!(score(wish("podAntiAffinity", 10), &db), [0, 100]);
    assert_eq!(score(Value::Null, &follower), [100, 0], "who must be near to the pod draws it");
    assert_eq!(score(Value::Null, &db), [0, 0]);
}
