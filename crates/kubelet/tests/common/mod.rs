//! A node in a test: a kubelet between an API server and a runtime in memory.

pub mod api;
pub mod runtime;
pub mod tls;

use std::path::Path;
use std::time::Duration;

use base::TaskScope;
use kubelet::Config;
use serde_json::{Value, json};

pub use api::Api;
pub use runtime::Runtime;

pub struct Node {
    pub api: Api,
    pub runtime: Runtime,
    pub folder: tempfile::TempDir,
    pub scope: TaskScope,
}

impl Node {
    pub async fn start() -> Self {
        Self::start_with(true, |_| {}).await
    }

    pub async fn start_with(with_events: bool, change: impl Fn(&mut Config)) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let folder = tempfile::tempdir().unwrap();
        let (api, runtime) = (Api::new(), Runtime::serve(folder.path(), with_events));
        let service = json!({"metadata": {}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 443}]}});
        api.put("/api/v1/namespaces/default/services/kubernetes", service);
        let mut node = Self { api, runtime, folder, scope: TaskScope::new("test") };
        node.run(change);
        node
    }

    /// Starts a kubelet on this node; an earlier one is stopped first by [`Node::stop`].
    pub fn run(&mut self, change: impl Fn(&mut Config)) {
        self.scope = TaskScope::new("test");
        let mut config = config(self.folder.path(), self.runtime.socket());
        change(&mut config);
        let run = kubelet::run(config, self.api.client(), self.scope.child("kubelet"));
        self.scope.spawn(async move { run.await.unwrap() });
    }

    pub async fn stop(&self) {
        assert!(self.scope.shutdown(Duration::from_secs(10)).await);
    }

    /// Creates a pod of the default namespace on this node.
    pub fn pod(&self, name: &str, spec: Value) -> String {
        let path = format!("/api/v1/namespaces/default/pods/{name}");
        let mut spec = spec;
        spec["nodeName"] = "node".into();
        for container in spec["containers"].as_array_mut().unwrap() {
            container["image"] = container.get("image").cloned().unwrap_or_else(|| "busybox:1".into());
        }
        self.api.put(
            &path,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generation": 1}, "spec": spec}),
        );
        path
    }

    pub async fn until_phase(&self, path: &str, phase: &str) -> Value {
        self.api.until(path, |pod| pod.is_some_and(|p| p["status"]["phase"] == phase)).await.unwrap()
    }

    pub async fn until_waiting(&self, path: &str, reason: &str) -> Value {
        let waits = |pod: Option<&Value>| {
            pod.is_some_and(|p| p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason)
        };
        self.api.until(path, waits).await.unwrap()
    }
}

fn config(folder: &Path, socket: &Path) -> Config {
    let mut config = Config::new("node", folder.join("kubelet"), socket);
    config.pod_logs_dir = folder.join("logs");
    config.container_logs_dir = None;
    config.node_ip = Some("127.0.0.1".parse().unwrap());
    config.cgroups_per_qos = false;
    config.eviction_hard.clear();
    config
}

/// True if the pod's `Ready` condition holds.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}
