//! Built-in admission plugins, service addresses, and priority and fairness, through a whole server in memory.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

use std::sync::Arc;
use std::time::Duration;

use apiserver::{ApiService, Options, Server};
use base::{TaskScope, UserInfo};
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use store::Store;
use tower::Service;

/// Longest time that something may take which happens in the background.
const PATIENCE: Duration = Duration::from_secs(20);

struct Cluster {
    service: ApiService,
    _scope: TaskScope,
    _dir: tempfile::TempDir,
}

fn store() -> Arc<dyn Store> {
    Arc::new(store::Embedded::in_memory(base::system_clock()).unwrap())
}

async fn start(
    store: Arc<dyn Store>,
    change: impl FnOnce(&mut Options),
) -> Result<Cluster, apiserver::Error> {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options {
        cert_dir: dir.path().to_owned(),
        bind_address: std::net::Ipv4Addr::LOCALHOST.into(),
        ..Options::default()
    };
    change(&mut options);
    let scope = TaskScope::new("test");
    let server = Server::new(options, store, base::system_clock(), &scope).await?;
    Ok(Cluster { service: server.service(), _scope: scope, _dir: dir })
}

impl Cluster {
    async fn raw(&self, method: &str, path: &str, body: Option<&Value>) -> http::Response<bytes::Bytes> {
        let bytes = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .body(Full::new(bytes::Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync())
            .unwrap();
        request.extensions_mut().insert(UserInfo::authenticated("admin", &["system:masters"]));
        let response = self.service.clone().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        http::Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let response = self.raw(method, path, body.as_ref()).await;
        let status = response.status().as_u16();
        (status, serde_json::from_slice(response.body()).unwrap_or_default())
    }

    async fn make(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call("POST", path, Some(body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// Calls again until the answer will do.
    async fn eventually<F: Future<Output = (u16, Value)>>(
        &self,
        call: impl Fn() -> F,
        will_do: impl Fn(&(u16, Value)) -> bool,
    ) -> (u16, Value) {
        let started = tokio::time::Instant::now();
        loop {
            let answer = call().await;
            if will_do(&answer) {
                return answer;
            }
            assert!(started.elapsed() < PATIENCE, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The message of a refusal.
    async fn refused(&self, path: &str, body: Value) -> String {
        let (status, answer) = self.call("POST", path, Some(body)).await;
        assert!(status >= 400, "{path}: {status} {answer}");
        answer["message"].as_str().unwrap().to_owned()
    }

    async fn namespace(&self, name: &str, labels: Value) {
        self.make("/api/v1/namespaces", json!({"metadata": {"name": name, "labels": labels}})).await;
        let accounts = format!("/api/v1/namespaces/{name}/serviceaccounts");
        self.make(&accounts, json!({"metadata": {"name": "default"}})).await;
    }
}

fn pod(name: &str, container: Value) -> Value {
    let mut container = container;
    container["name"] = json!("c");
    container["image"] = json!("busybox");
    json!({"metadata": {"name": name}, "spec": {"containers": [container]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_creations_never_exceed_a_quota() {
    let cluster = Arc::new(start(store(), |_| {}).await.unwrap());
    cluster.namespace("q", json!({})).await;
    let quotas = "/api/v1/namespaces/q/resourcequotas";
    let mut quota = cluster
        .make(quotas, json!({"metadata": {"name": "five"}, "spec": {"hard": {"configmaps": "5"}}}))
        .await;
    quota["status"] = json!({"hard": {"configmaps": "5"}, "used": {"configmaps": "0"}});
    let (status, _) = cluster.call("PUT", &format!("{quotas}/five/status"), Some(quota)).await;
    assert_eq!(status, 200);
    let maps = "/api/v1/namespaces/q/configmaps";
    let (status, _) =
        cluster.call("POST", &format!("{maps}?dryRun=All"), Some(json!({"metadata": {"name": "dry"}}))).await;
    assert_eq!(status, 201);
    let tasks: Vec<_> = (0..20)
        .map(|i| {
            let cluster = cluster.clone();
            tokio::spawn(async move {
                // Every name is asked for twice: the second is refused, and must not be counted.
                let body = json!({"metadata": {"name": format!("m{}", i / 2)}});
                cluster.call("POST", maps, Some(body)).await
            })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        let (status, answer) = task.await.unwrap();
        match status {
            201 => made += 1,
            403 => assert!(
                answer["message"].as_str().unwrap().ends_with(
                    "is forbidden: exceeded quota: five, requested: configmaps=1, used: configmaps=5, limited: configmaps=5"
                ),
                "{answer}"
            ),
            status => assert_eq!(status, 409, "{answer}"),
        }
    }
    let (_, quota) = cluster.call("GET", &format!("{quotas}/five"), None).await;
    let (_, list) = cluster.call("GET", maps, None).await;
    assert_eq!(made, list["items"].as_array().unwrap().len());
    assert_eq!(quota["status"]["used"]["configmaps"], json!(made.to_string()));
    assert!(made <= 5);
}

#[tokio::test]
async fn pods_are_judged_and_bounded() {
    let cluster = start(store(), |_| {}).await.unwrap();
    cluster.namespace("strict", json!({"pod-security.kubernetes.io/enforce": "restricted"})).await;
    let pods = "/api/v1/namespaces/strict/pods";
    let words = cluster.refused(pods, pod("p", json!({"securityContext": {"privileged": true}}))).await;
    assert!(
        words.starts_with("pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": privileged (container \"c\" must not set securityContext.privileged=true), "),
        "{words}"
    );
    let bad = json!({"metadata": {"name": "x", "labels": {"pod-security.kubernetes.io/warn": "bogus"}}});
    let words = cluster.refused("/api/v1/namespaces", bad).await;
    assert_eq!(
        words,
        "Namespace \"x\" is invalid: metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"bogus\": must be one of privileged, baseline, restricted"
    );
    cluster.namespace("lr", json!({})).await;
    let limit = json!({"type": "Container", "default": {"memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}, "max": {"memory": "2Gi"}});
    let ranges = "/api/v1/namespaces/lr/limitranges";
    cluster.make(ranges, json!({"metadata": {"name": "l"}, "spec": {"limits": [limit]}})).await;
    let pods = "/api/v1/namespaces/lr/pods";
    let made = cluster.make(pods, pod("p", json!({}))).await;
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(resources["requests"]["cpu"], "100m");
    assert_eq!(resources["limits"]["memory"], "1Gi");
    let words = cluster.refused(pods, pod("q", json!({"resources": {"limits": {"memory": "3Gi"}}}))).await;
    assert_eq!(words, "pods \"q\" is forbidden: maximum memory usage per Container is 2Gi, but limit is 3Gi");
}

#[tokio::test]
async fn plugins_are_chosen_by_name() {
    let unknown = start(store(), |o| o.enable_admission_plugins = vec!["Nope".to_owned()]).await;
    assert!(unknown.err().unwrap().to_string().contains("\"Nope\" is unknown"));
    let cluster = start(store(), |o| {
        o.enable_admission_plugins = vec!["NamespaceAutoProvision".to_owned(), "AlwaysPullImages".to_owned()];
        o.disable_admission_plugins = vec!["ServiceAccount".to_owned()];
    })
    .await
    .unwrap();
    let made =
        cluster.make("/api/v1/namespaces/anew/pods", pod("p", json!({"imagePullPolicy": "Never"}))).await;
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Always");
}

fn service(name: &str, ip: Option<&str>) -> Value {
    let mut service = json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    if let Some(ip) = ip {
        service["spec"]["clusterIP"] = json!(ip);
    }
    service
}

#[tokio::test]
async fn addresses_are_objects_that_several_servers_share() {
    let store = store();
    let (one, other) = (start(store.clone(), |_| {}).await.unwrap(), start(store, |_| {}).await.unwrap());
    one.namespace("n", json!({})).await;
    let (services, addresses) = ("/api/v1/namespaces/n/services", "/apis/networking.k8s.io/v1/ipaddresses");
    let ranges = "/apis/networking.k8s.io/v1/servicecidrs";
    let (_, range) = one.call("GET", &format!("{ranges}/kubernetes"), None).await;
    assert_eq!(range["spec"]["cidrs"], json!(["10.96.0.0/16"]));
    assert_eq!(range["status"]["conditions"][0]["status"], "True");
    let made = one.make(services, service("a", None)).await;
    let ip = made["spec"]["clusterIP"].as_str().unwrap();
    let (_, address) = one.call("GET", &format!("{addresses}/{ip}"), None).await;
    assert_eq!(
        address["spec"]["parentRef"],
        json!({"resource": "services", "namespace": "n", "name": "a"}),
        "{address}"
    );
    let words = other.refused(services, service("b", Some(ip))).await;
    assert_eq!(
        words,
        format!(
            "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"{ip}\"]: failed to allocate IP {ip}: provided IP is already allocated"
        )
    );
    let both = tokio::join!(
        one.call("POST", services, Some(service("c", Some("10.96.7.7")))),
        other.call("POST", services, Some(service("d", Some("10.96.7.7"))))
    );
    let mut codes = [both.0.0, both.1.0];
    codes.sort_unstable();
    assert_eq!(codes, [201, 422]);
    let (status, _) = one.call("DELETE", &format!("{services}/a"), None).await;
    assert_eq!(status, 200);
    let (status, _) = one.call("GET", &format!("{addresses}/{ip}"), None).await;
    assert_eq!(status, 404);
    let outside = Some("10.200.0.9");
    let words = one.refused(services, service("e", outside)).await;
    assert!(words.ends_with("the provided network does not match the current range"), "{words}");
    one.make(ranges, json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/24"]}})).await;
    other.make(services, service("e", outside)).await;
}

#[tokio::test]
async fn what_is_stored_with_another_object_is_encrypted_too() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("encryption.yaml");
    let config = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
        - resources: [ipaddresses.networking.k8s.io, resourcequotas]\n  \
        providers: [{aescbc: {keys: [{name: one, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}}, {identity: {}}]\n";
    std::fs::write(&path, config).unwrap();
    let store = store();
    let cluster = start(store.clone(), |o| o.encryption_provider_config = Some(path)).await.unwrap();
    cluster.namespace("n", json!({})).await;
    let quotas = "/api/v1/namespaces/n/resourcequotas";
    let mut quota =
        cluster.make(quotas, json!({"metadata": {"name": "q"}, "spec": {"hard": {"services": "5"}}})).await;
    quota["status"] = json!({"hard": {"services": "5"}, "used": {"services": "1"}});
    let own = format!("{quotas}/q");
    assert_eq!(cluster.call("PUT", &format!("{own}/status"), Some(quota)).await.0, 200);
    let made = cluster.make("/api/v1/namespaces/n/services", service("a", None)).await;
    let ip = made["spec"]["clusterIP"].as_str().unwrap();
    for key in [format!("/registry/ipaddresses/{ip}"), "/registry/resourcequotas/n/q".to_owned()] {
        let entry = store.get(key.as_bytes()).unwrap().expect(&key);
        assert!(entry.value.starts_with(b"k8s:enc:aescbc:v1:one:"), "{key} is not encrypted");
    }
    let (_, quota) = cluster.call("GET", &own, None).await;
    assert_eq!(quota["status"]["used"]["services"], "2");
    let (_, address) =
        cluster.call("GET", &format!("/apis/networking.k8s.io/v1/ipaddresses/{ip}"), None).await;
    assert_eq!(address["spec"]["parentRef"]["name"], "a");
}

#[tokio::test]
async fn an_address_that_is_deleted_under_its_service_comes_back() {
    // On one thread a request runs before tasks that were spawned earlier have begun.
    let cluster = start(store(), |_| {}).await.unwrap();
    cluster.namespace("n", json!({})).await;
    let made = cluster.make("/api/v1/namespaces/n/services", service("a", None)).await;
    let address = made["spec"]["clusterIP"].as_str().unwrap();
    let address = format!("/apis/networking.k8s.io/v1/ipaddresses/{address}");
    let (_, before) = cluster.call("GET", &address, None).await;
    assert_eq!(cluster.call("DELETE", &address, None).await.0, 200);
    let uid = |object: &Value| object["metadata"]["uid"].clone();
    let restored = async {
        loop {
            let (status, found) = cluster.call("GET", &address, None).await;
            if status == 200 && uid(&found) != uid(&before) {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let restored = tokio::time::timeout(PATIENCE, restored).await.expect("the address comes back");
    assert_eq!(restored["spec"], before["spec"]);
}

#[tokio::test]
async fn requests_are_classified_and_schemas_without_a_level_dangle() {
    let cluster = start(store(), |_| {}).await.unwrap();
    let response = cluster.raw("GET", "/api/v1/namespaces", None).await;
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    assert_eq!(header("x-kubernetes-pf-flowschema-uid").len(), 36);
    assert_eq!(header("x-kubernetes-pf-prioritylevel-uid").len(), 36);
    let page = cluster.raw("GET", "/debug/api_priority_and_fairness/dump_priority_levels", None).await;
    let page = String::from_utf8_lossy(page.body()).into_owned();
    assert!(page.contains("\nglobal-default, ") && page.contains("\nexempt, "), "{page}");
    let metrics = cluster.raw("GET", "/metrics", None).await;
    let metrics = String::from_utf8_lossy(metrics.body()).into_owned();
    assert!(metrics.contains("apiserver_flowcontrol_nominal_limit_seats{priority_level=\"workload-low\"}"));
    let schemas = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
    let spec = json!({"priorityLevelConfiguration": {"name": "nowhere"}, "matchingPrecedence": 9000});
    cluster.make(schemas, json!({"metadata": {"name": "lost"}, "spec": spec})).await;
    let dangles = async {
        loop {
            let (_, schema) = cluster.call("GET", &format!("{schemas}/lost"), None).await;
            let condition = &schema["status"]["conditions"][0];
            if condition["type"] == "Dangling" && condition["status"] == "True" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, dangles).await.unwrap();
}

#[tokio::test]
async fn an_evicted_pod_says_so() {
    let cluster = start(store(), |_| {}).await.unwrap();
    cluster.namespace("e", json!({})).await;
    let pods = "/api/v1/namespaces/e/pods";
    let mut held = pod("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let version = cluster.make(pods, held).await["metadata"]["resourceVersion"].clone();
    let eviction = |version: &Value| {
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "held"},
               "deleteOptions": {"preconditions": {"resourceVersion": version}}})
    };
    let path = format!("{pods}/held/eviction");
    let (status, _) = cluster.call("POST", &format!("{path}?dryRun=All"), Some(eviction(&version))).await;
    assert_eq!(status, 201);
    let (_, before) = cluster.call("GET", &format!("{pods}/held"), None).await;
    assert_eq!(before["metadata"]["resourceVersion"], version);
    let (status, _) = cluster.call("POST", &path, Some(eviction(&json!("1")))).await;
    assert_eq!(status, 409);
    cluster.make(&path, eviction(&version)).await;
    let (_, after) = cluster.call("GET", &format!("{pods}/held"), None).await;
    assert!(after["metadata"]["deletionTimestamp"].is_string(), "{after}");
    let conditions = after["status"]["conditions"].as_array().unwrap();
    let told = conditions.iter().find(|c| c["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&told["status"], &told["reason"]), (&json!("True"), &json!("EvictionByEvictionAPI")));
}

#[tokio::test]
async fn a_default_that_came_later_is_there_when_read() {
    let cluster = start(store(), |_| {}).await.unwrap();
    cluster.namespace("d", json!({})).await;
    let definition = json!({"metadata": {"name": "bars.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "bars", "kind": "Bar"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    cluster.make(definitions, definition).await;
    let bars = "/apis/example.com/v1/namespaces/d/bars";
    let bar = json!({"apiVersion": "example.com/v1", "kind": "Bar", "metadata": {"name": "old"}, "a": "x"});
    cluster.eventually(|| cluster.call("POST", bars, Some(bar.clone())), |(status, _)| *status == 201).await;
    let path = format!("{definitions}/bars.example.com");
    let (_, mut definition) = cluster.call("GET", &path, None).await;
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["b"]["default"] = json!("B");
    assert_eq!(cluster.call("PUT", &path, Some(definition)).await.0, 200);
    let old = format!("{bars}/old");
    let (_, read) = cluster.eventually(|| cluster.call("GET", &old, None), |(_, o)| o["b"] == "B").await;
    assert_eq!(read["a"], "x");
    let (_, list) = cluster.call("GET", bars, None).await;
    assert_eq!(list["items"][0]["b"], "B");
    // Stored with its defaults, it is given as it is stored; nothing tells the two apart.
    let (_, new) = cluster.call("PATCH", &old, Some(json!({"a": "y"}))).await;
    assert_eq!((&new["a"], &new["b"]), (&json!("y"), &json!("B")));
}
