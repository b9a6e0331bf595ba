//! Who has to go for whom.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::super::tests::{Listed, profile};
use super::{DefaultPreemption, best};
use crate::framework::{CycleState, Diagnosis, PostFilter};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;

fn pod(name: &str, priority: i32, cpu: &str, extra: Value) -> Arc<PodInfo> {
    let mut value = json!({
        "metadata": {"name": name, "uid": name, "namespace": "d", "labels": {"name": name}},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
    });
    for (key, part) in extra.as_object().into_iter().flatten() {
        match value[key].as_object_mut() {
            Some(known) => known.extend(part.as_object().unwrap().clone()),
            None => value[key] = part.clone(),
        }
    }
    let pod: Pod = serde_json::from_value(value).unwrap();
    Arc::new(PodInfo::new(Arc::new(pod)))
}

fn node(name: &str, pods: &[Arc<PodInfo>]) -> Arc<NodeInfo> {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": name},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "9"}},
    }))
    .unwrap();
    let mut info = NodeInfo::new(Arc::new(node));
    pods.iter().for_each(|pod| info.add_pod(pod.clone()));
    Arc::new(info)
}

/// The node and the victims there, or why there are none.
async fn preempt(pod: &PodInfo, nodes: Vec<Arc<NodeInfo>>, listed: Listed) -> String {
    let client = kube::Client::new(
        tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("no server"))
        }),
        "default",
    );
    let plugin = DefaultPreemption::new(client, None, Arc::new(listed));
    let (profile, mut state, snapshot) = (profile(), CycleState::default(), Snapshot::new(nodes));
    profile.run_pre_filter(&mut state, pod, &snapshot).unwrap();
    let mut diagnosis = Diagnosis { all_nodes: snapshot.nodes().len(), ..Diagnosis::default() };
    for node in snapshot.nodes() {
        if let Err(status) = profile.run_filter(&state, pod, node) {
            diagnosis.nodes.insert(node.name().to_owned(), status);
        }
    }
    let (candidates, _) = plugin.dry_run(&profile, &state, pod, &snapshot, &diagnosis);
    match best(candidates) {
        Some(chosen) => {
            let names: Vec<&str> = chosen.pods.iter().map(|pod| pod.name()).collect();
            format!("{}: {}", chosen.node, names.join(" "))
        }
        None => plugin.post_filter(&profile, &state, pod, &snapshot, &diagnosis).await.message,
    }
}

#[tokio::test]
async fn the_least_harm_is_done() {
    let plain = || json!({});
    let full = |name: &str, priority| node(name, &[pod(&format!("{name}1"), priority, "2", plain())]);
    let wants = |cpu: &str| pod("p", 100, cpu, plain());
    let none = "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";
    let never = pod("p", 100, "1", json!({"spec": {"preemptionPolicy": "Never"}}));
    let two = || node("b", &[pod("b1", 5, "1", plain()), pod("b2", 5, "1", plain())]);
    let table: Vec<(&str, Arc<PodInfo>, Vec<Arc<NodeInfo>>, &str)> = vec![
        ("of lower priority", wants("1"), vec![full("a", 1)], "a: a1"),
        ("not of the same", wants("1"), vec![full("a", 100)], none),
        ("the lowest", wants("1"), vec![full("a", 7), full("b", 3)], "b: b1"),
        ("no more than needed", wants("1"), vec![two()], "b: b2"),
        ("both if needed", wants("2"), vec![two()], "b: b1 b2"),
        ("the fewest", wants("2"), vec![full("a", 5), two()], "a: a1"),
        (
            "no use",
            wants("3"),
            vec![full("a", 1)],
            "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        ),
        (
            "not allowed",
            never,
            vec![full("a", 100)],
            "preemption: not eligible due to preemptionPolicy=Never.",
        ),
    ];
    for (name, pod, nodes, expected) in table {
        assert_eq!(preempt(&pod, nodes, Listed::default()).await, expected, "{name}");
    }
}

#[tokio::test]
async fn budgets_are_broken_last() {
    let budget = json!({
        "metadata": {"name": "b", "namespace": "d"},
        "spec": {"selector": {"matchLabels": {"name": "b1"}}},
        "status": {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1},
    });
    let budgets = vec![Arc::new(serde_json::from_value(budget).unwrap())];
    let listed = || Listed { budgets: budgets.clone(), ..Listed::default() };
    let lone = |name: &str, priority| node(&name[..1], &[pod(name, priority, "2", json!({}))]);
    let high = pod("p", 100, "1", json!({}));
    assert_eq!(preempt(&high, vec![lone("a1", 9), lone("b1", 1)], listed()).await, "a: a1");
    assert_eq!(preempt(&high, vec![lone("b1", 1)], listed()).await, "b: b1", "a budget does not forbid it");
    let both = node("n", &[pod("b1", 1, "1", json!({})), pod("b2", 1, "1", json!({}))]);
    assert_eq!(preempt(&high, vec![both], listed()).await, "n: b2");
}
