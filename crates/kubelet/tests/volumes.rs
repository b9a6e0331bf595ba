//! Volumes of pods, as containers see them.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, clippy::unwrap_used)]
mod common;

use std::path::PathBuf;

use common::Node;
use serde_json::json;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: not root");
    }
    root
}

#[tokio::test]
async fn files_of_config_maps_secrets_and_tokens() {
    if !is_root() {
        return;
    }
    let node = Node::start().await;
    node.api.put("/api/v1/namespaces/default/configmaps/cm", json!({"metadata": {}, "data": {"k": "1"}}));
    node.api.put("/api/v1/namespaces/default/secrets/s", json!({"metadata": {}, "data": {"p": "aGk="}}));
    node.api.put("/api/v1/namespaces/default/serviceaccounts/default", json!({"metadata": {}}));
    let spec = json!({
        "volumes": [
            {"name": "cm", "configMap": {"name": "cm"}},
            {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
            {"name": "all", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}},
                {"configMap": {"name": "cm", "items": [{"key": "k", "path": "deep/k"}]}},
                {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ],
        "containers": [{"name": "c", "volumeMounts": [
            {"name": "cm", "mountPath": "/cm"}, {"name": "s", "mountPath": "/s"},
            {"name": "all", "mountPath": "/all"}, {"name": "tmp", "mountPath": "/tmp", "subPath": "in/side"}]}],
    });
    let path = node.pod("web", spec);
    node.until_phase(&path, "Running").await;
    let config = node.runtime.config("c");
    let host = |inside: &str| -> PathBuf {
        config.mounts.iter().find(|m| m.container_path == inside).unwrap().host_path.clone().into()
    };
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(host("/cm").join("k")), "1");
    assert_eq!(read(host("/s").join("p")), "hi");
    assert_eq!(read(host("/all").join("token")), "token-default");
    assert_eq!(read(host("/all").join("deep/k")), "1");
    assert_eq!(read(host("/all").join("name")), "web");
    assert!(host("/tmp").is_dir());
    assert!(config.mounts.iter().find(|m| m.container_path == "/cm").unwrap().readonly);
    node.api.put("/api/v1/namespaces/default/configmaps/cm", json!({"metadata": {}, "data": {"k": "2"}}));
    let changed = async {
        while read(host("/cm").join("k")) != "2" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), changed).await.unwrap();
    node.api.delete(&path, 1);
    node.api.until(&path, |pod| pod.is_none()).await;
    let left = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!left.contains(node.folder.path().to_str().unwrap()), "{left}");
}

#[tokio::test]
async fn unsupported_volumes_are_named() {
    let node = Node::start().await;
    let volumes = json!([{"name": "v", "csi": {"driver": "d"}}]);
    let path = node.pod("web", json!({"volumes": volumes, "containers": [{"name": "c"}]}));
    node.until_waiting(&path, "ContainerCreating").await;
    while !node.api.event_reasons().contains(&"FailedMount".to_owned()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.runtime.sandboxes(), 0);
}

#[tokio::test]
async fn a_new_kubelet_takes_over_the_volumes_of_the_old_one() {
    if !is_root() {
        return;
    }
    let mut node = Node::start().await;
    let config_map = "/api/v1/namespaces/default/configmaps/cm";
    node.api.put(config_map, json!({"metadata": {}, "data": {"k": "1"}}));
    let spec = json!({
        "volumes": [{"name": "cm", "configMap": {"name": "cm"}}],
        "containers": [{"name": "c", "volumeMounts": [{"name": "cm", "mountPath": "/cm"}]}],
    });
    let path = node.pod("web", spec);
    node.until_phase(&path, "Running").await;
    let file = node.runtime.config("c").mounts[0].host_path.clone() + "/k";
    node.stop().await;
    node.run(|_| {});
    node.until_phase(&node.pod("other", json!({"containers": [{"name": "o"}]})), "Running").await;
    node.api.put(config_map, json!({"metadata": {}, "data": {"k": "2"}}));
    let changed = async {
        while std::fs::read_to_string(&file).unwrap() != "2" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), changed).await.unwrap();
    // Nothing goes round in circles: a few looks per pod and change.
    let lists = node.runtime.lists();
    assert!(lists < 60, "{lists}");
    node.api.delete(&path, 1);
    node.api.until(&path, |pod| pod.is_none()).await;
}

#[tokio::test]
async fn claims_are_resolved_to_paths() {
    let node = Node::start().await;
    let data = node.folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let claim =
        json!({"metadata": {"uid": "claim"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
    node.api.put("/api/v1/namespaces/default/persistentvolumeclaims/data", claim);
    let volume = json!({"metadata": {}, "spec": {"hostPath": {"path": data}, "claimRef": {"uid": "claim"}}});
    node.api.put("/api/v1/persistentvolumes/pv", volume);
    let spec = json!({
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
        "containers": [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/data"}]}],
    });
    let path = node.pod("web", spec);
    node.until_phase(&path, "Running").await;
    assert_eq!(node.runtime.config("c").mounts[0].host_path, data.to_str().unwrap());
    node.api.delete(&path, 1);
    node.api.until(&path, |pod| pod.is_none()).await;
    assert!(data.exists());
}
