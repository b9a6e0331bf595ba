//! What the conformance suite relies on and no other story tells: quotas, evictions, endpoints of nobody's service,
//! images as volumes, and resources that somebody announced for a node.

#![allow(clippy::unwrap_used)] // a story ends at the first thing that goes wrong

use serde_json::json;
use testkit::{Cluster, busybox, can_run, wait_until};

#[test]
fn what_the_conformance_suite_relies_on() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::up();
    let image =
        busybox(cluster.folder(), "example.local/box:v1", &[("mark", "made")], &["/bin/sleep", "1000"]);
    cluster.import(&image);
    quotas_are_freed(&cluster);
    endpoints_are_left_alone(&cluster);
    images_are_volumes(&cluster);
    announced_resources_are_counted(&cluster);
    a_disrupted_pod_fails_no_job(&cluster);
}

fn quotas_are_freed(cluster: &Cluster) {
    // The API server's own service is the first.
    cluster.k("create quota q --hard=services=2,configmaps=9,pods=9");
    cluster.until("get quota q -o jsonpath={.status.used.services}", "1");
    cluster.k("create service clusterip one --tcp=80");
    let refused = cluster.kubectl(&["create", "service", "clusterip", "two", "--tcp=80"]).output();
    assert!(refused.stderr.contains("exceeded quota"), "{refused:?}");
    cluster.k("delete service one");
    cluster.until("get quota q -o jsonpath={.status.used.services}", "1");
    cluster.k("delete quota q");
}

fn endpoints_are_left_alone(cluster: &Cluster) {
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "lonely"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]}));
    // A service that comes and goes afterwards: the controller has seen the endpoints by then.
    cluster.k("create service clusterip seen --tcp=80");
    wait_until("the controller works", || {
        let output = cluster.kubectl(&["get", "endpoints", "seen"]).output();
        if output.status.success() { Ok(()) } else { Err(output.stderr) }
    });
    assert_eq!(cluster.k("get endpoints lonely -o jsonpath={.subsets[0].addresses[0].ip}"), "192.0.2.1");
    cluster.k("delete service/seen endpoints/lonely");
}

fn images_are_volumes(cluster: &Cluster) {
    cluster.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "reader"}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "example.local/box:v1",
            "volumeMounts": [{"name": "v", "mountPath": "/volume"}]}],
        "volumes": [{"name": "v", "image": {"reference": "example.local/box:v1"}}]}}));
    cluster.k("wait --for=condition=Ready pod/reader --timeout=60s");
    assert_eq!(cluster.k("exec reader -- cat /volume/mark"), "made");
    let written = cluster.kubectl(&["exec", "reader", "--", "touch", "/volume/new"]).output();
    assert!(written.stderr.contains("Read-only"), "{written:?}");
}

fn announced_resources_are_counted(cluster: &Cluster) {
    cluster.k(r#"patch node node-1 --subresource=status --type=merge -p {"status":{"capacity":{"example.com/lamp":"5"},"allocatable":{"example.com/lamp":"5"}}}"#);
    let pod = |name: &str, lamps: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "example.local/box:v1",
                "resources": {"limits": {"example.com/lamp": lamps}}}]}})
    };
    cluster.apply(&pod("three", "3"));
    cluster.k("wait --for=condition=Ready pod/three --timeout=60s");
    cluster.apply(&pod("four", "4"));
    let reason = r#"get pod four -o jsonpath={.status.conditions[?(@.type=="PodScheduled")].reason}"#;
    cluster.until(reason, "Unschedulable");
    // The place is free when the API server says so, not only when the container has ended.
    cluster.k("delete pod three");
    cluster.k("wait --for=condition=Ready pod/four --timeout=60s");
    cluster.k("delete pod four");
}

fn a_disrupted_pod_fails_no_job(cluster: &Cluster) {
    cluster.apply(&json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "long"}, "spec": {
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]},
        "template": {"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": "example.local/box:v1"}]}}}}));
    cluster.until("get job long -o jsonpath={.status.ready}", "1");
    let first = cluster.k("get pods -l job-name=long -o jsonpath={.items[0].metadata.name}");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": first}});
    let path = format!("/api/v1/namespaces/default/pods/{first}/eviction");
    cluster.kubectl(&["create", "--raw", &path, "-f", "-"]).input(eviction.to_string()).output().ok();
    wait_until("another pod runs in place of the evicted one", || {
        let line = "get pods -l job-name=long --field-selector=status.phase=Running -o jsonpath={.items[*].metadata.name}";
        let pods = cluster.k(line);
        if !pods.is_empty() && pods != first { Ok(()) } else { Err(pods) }
    });
    assert_eq!(cluster.k("get job long -o jsonpath={.status.failed}"), "");
    cluster.k("delete job long");
}
