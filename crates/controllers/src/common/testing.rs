//! Objects for tests, with only what a test cares about.

use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Any object from its JSON.
pub fn object<K: DeserializeOwned>(json: Value) -> K {
    serde_json::from_value(json).expect("test object")
}

/// A timestamp.
pub fn at(text: &str) -> k8s_openapi::jiff::Timestamp {
    text.parse().expect("test timestamp")
}

/// A pod in namespace `ns`, uid `uid-NAME`, to be changed and built.
pub fn pod(name: &str) -> PodBuilder {
    PodBuilder(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"),
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": []},
        "status": {}
    }))
}

/// Makes a pod.
pub struct PodBuilder(pub Value);

impl PodBuilder {
    /// Bound to a node.
    pub fn on(mut self, node: &str) -> Self {
        self.0["spec"]["nodeName"] = json!(node);
        self
    }

    /// In a phase.
    pub fn phase(mut self, phase: &str) -> Self {
        self.0["status"]["phase"] = json!(phase);
        self
    }

    /// Phase Running.
    pub fn running(self) -> Self {
        self.phase("Running")
    }

    /// Ready since a time.
    pub fn ready_since(mut self, at: &str) -> Self {
        self.0["status"]["conditions"] =
            json!([{"type": "Ready", "status": "True", "lastTransitionTime": at}]);
        self
    }

    /// Running and ready since the start of 2026.
    pub fn ready(self) -> Self {
        self.running().ready_since("2026-01-01T00:00:00Z")
    }

    /// With a deletion cost.
    pub fn cost(mut self, cost: &str) -> Self {
        self.0["metadata"]["annotations"] = json!({"controller.kubernetes.io/pod-deletion-cost": cost});
        self
    }

    /// Being deleted since a time.
    pub fn leaving(mut self) -> Self {
        self.0["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        self
    }

    /// With a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][key] = json!(value);
        self
    }

    /// With a JSON value at a pointer, whose parent exists.
    pub fn with(mut self, parent: &str, key: &str, value: Value) -> Self {
        self.0.pointer_mut(parent).expect("parent of a test field")[key] = value;
        self
    }

    /// The pod.
    pub fn build(self) -> Pod {
        object(self.0)
    }
}
