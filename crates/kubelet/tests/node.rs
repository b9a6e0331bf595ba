//! The node itself: registration, lease, static pods, the HTTPS API.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, clippy::unwrap_used)]
mod common;

use common::tls::Tls;
use common::{Node, is_ready};
use pki::Usage;
use serde_json::{Value, json};

#[tokio::test]
async fn the_node_registers_ready_and_holds_its_lease() {
    let node = Node::start().await;
    let registered = node.api.until("/api/v1/nodes/node", |n| n.is_some()).await.unwrap();
    let conditions = registered["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|c| c["type"] == "Ready").unwrap();
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("True"), &json!("KubeletReady")));
    assert_eq!(registered["metadata"]["labels"]["kubernetes.io/hostname"], "node");
    assert_eq!(registered["status"]["nodeInfo"]["containerRuntimeVersion"], "fake://1.0");
    assert_eq!(registered["status"]["capacity"]["pods"], "110");
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node";
    let lease = node.api.until(lease, |l| l.is_some()).await.unwrap();
    assert_eq!(
        (&lease["spec"]["holderIdentity"], &lease["spec"]["leaseDurationSeconds"]),
        (&json!("node"), &json!(40))
    );
}

/// Whoever writes into a node's capacity, as operators do for what has no device plugin, gives its pods something to take.
#[tokio::test]
async fn extended_resources_become_allocatable() {
    const PATH: &str = "/api/v1/nodes/node";
    const NAME: &str = "example.com/dongle";
    let often = std::time::Duration::from_millis(20);
    let node = Node::start_with(true, |config| config.node_status_update_frequency = often).await;
    let mut object = node.api.until(PATH, |n| n.is_some()).await.unwrap();
    object["status"]["capacity"][NAME] = json!("5");
    node.api.put(PATH, object);
    let is_five = |n: Option<&Value>| n.is_some_and(|n| n["status"]["allocatable"][NAME] == "5");
    let mut object = node.api.until(PATH, is_five).await.unwrap();
    assert_eq!(object["status"]["allocatable"]["pods"], "110");
    object["status"]["capacity"].as_object_mut().unwrap().remove(NAME);
    node.api.put(PATH, object);
    let is_gone = |n: Option<&Value>| n.is_some_and(|n| n["status"]["allocatable"].get(NAME).is_none());
    node.api.until(PATH, is_gone).await;
}

#[tokio::test]
async fn static_pods_run_and_have_mirrors() {
    let manifests = tempfile::tempdir().unwrap();
    let folder = manifests.path().to_owned();
    let node = Node::start_with(true, |config| config.static_pod_path = Some(folder.clone())).await;
    let write = |text: &str| {
        // As tools do: the whole file appears at once.
        std::fs::write(folder.join(".web.yaml"), text).unwrap();
        std::fs::rename(folder.join(".web.yaml"), folder.join("web.yaml")).unwrap();
    };
    let manifest = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: c, image: 'busybox:1'}]}}";
    write(manifest);
    let path = "/api/v1/namespaces/default/pods/web-node";
    let mirror = node.api.until(path, |pod| pod.is_some_and(is_ready)).await.unwrap();
    let annotations = &mirror["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_eq!(annotations["kubernetes.io/config.mirror"], annotations["kubernetes.io/config.hash"]);
    assert_eq!(node.runtime.running(), 1);
    // Deleting the mirror does not end the pod; another mirror comes.
    node.api.delete(path, 0);
    let is_new = |pod: Option<&Value>| {
        pod.is_some_and(|p| p["metadata"]["uid"] != mirror["metadata"]["uid"] && is_ready(p))
    };
    node.api.until(path, is_new).await;
    assert_eq!(node.runtime.calls().iter().filter(|c| *c == "StartContainer").count(), 1);
    std::fs::remove_file(folder.join("web.yaml")).unwrap();
    node.api.until(path, |pod| pod.is_none()).await;
    while node.runtime.sandboxes() > 0 {
        tokio::task::yield_now().await;
    }
}

async fn get(client: &kube::Client, path: &str) -> (u16, String) {
    use http_body_util::BodyExt;
    let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
    let response = client.send(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn logs_and_pods_are_for_those_who_may() {
    let tls = Tls::new();
    let node = Node::start_with(true, |config| tls.configure(config)).await;
    let path = node.pod("web", json!({"containers": [{"name": "c"}]}));
    node.api.until(&path, |pod| pod.is_some_and(is_ready)).await;
    let admin = tls.client(Some(tls.issue("admin", Usage::Client)));
    assert_eq!(get(&admin, "/healthz").await, (200, "ok".to_owned()));
    assert_eq!(get(&admin, "/containerLogs/default/web/c").await, (200, "hello\n".to_owned()));
    let (status, pods) = get(&admin, "/pods").await;
    let pods: Value = serde_json::from_str(&pods).unwrap();
    assert_eq!((status, &pods["items"][0]["status"]["phase"]), (200, &json!("Running")));
    assert_eq!(get(&admin, "/containerLogs/default/web/x").await.0, 400);
    assert_eq!(get(&admin, "/checkpoint/default/web/c").await.0, 501);
    assert_eq!(get(&admin, "/exec/default/web/c?command=sh&output=1").await.0, 400);
    assert!(get(&admin, "/metrics").await.1.contains("kubelet_running_pods 1\n"));
    assert!(get(&admin, "/stats/summary").await.1.contains("\"nodeName\":\"node\""));
    let nobody = tls.client(Some(tls.issue("nobody", Usage::Client)));
    assert_eq!(get(&nobody, "/pods").await.0, 403);
    assert_eq!(get(&tls.client(None), "/pods").await, (401, "Unauthorized".to_owned()));
}
