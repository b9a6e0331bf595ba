//! Lists in every form, of sizes around that of one piece, what selectors find, and deletions that meet others, through a
//! server in memory.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

use std::sync::Arc;

use apiserver::{ApiService, Options, Server};
use base::{TaskScope, UserInfo};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::Service;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MERGE_PATCH: &str = "application/merge-patch+json";

struct Fixture {
    service: ApiService,
    _scope: TaskScope,
    _dir: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            cert_dir: dir.path().to_owned(),
            bind_address: std::net::Ipv4Addr::LOCALHOST.into(),
            ..Options::default()
        };
        let scope = TaskScope::new("test");
        let store = Arc::new(store::Embedded::in_memory(base::system_clock()).unwrap());
        let server = Server::new(options, store, base::system_clock(), &scope).await.unwrap();
        Self { service: server.service(), _scope: scope, _dir: dir }
    }

    async fn send(&self, method: &str, path: &str, accept: &str, body: Vec<u8>) -> Bytes {
        let (status, body) = self.try_send(method, path, accept, body).await;
        assert!(status.is_success(), "{method} {path}: {status}");
        body
    }

    async fn try_send(&self, method: &str, path: &str, accept: &str, body: Vec<u8>) -> (StatusCode, Bytes) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", accept)
            .header("content-type", if method == "PATCH" { MERGE_PATCH } else { "application/json" })
            .body(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync())
            .unwrap();
        request.extensions_mut().insert(UserInfo::authenticated("admin", &["system:masters"]));
        let response = self.service.clone().call(request).await.unwrap();
        (response.status(), response.into_body().collect().await.unwrap().to_bytes())
    }

    async fn create(&self, number: usize, bytes: usize) {
        let object = json!({
            "metadata": {"name": format!("m-{number}"), "labels": {"odd": (number % 2).to_string()}},
            "data": {"text": "{\"x\": [1, \\".repeat(bytes / 12)},
        });
        self.send("POST", CONFIG_MAPS, "application/json", object.to_string().into_bytes()).await;
    }

    async fn json(&self, path: &str, accept: &str) -> Value {
        serde_json::from_slice(&self.send("GET", path, accept, Vec::new()).await).unwrap()
    }
}

/// The same list as long as that revision is known: the server itself may write something meanwhile.
fn at_revision_of(list: &Value) -> String {
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    format!("{CONFIG_MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact")
}

/// Every line is indented by an even number of spaces, and brackets that hold something end their line.
fn assert_laid_out(text: &str) {
    assert!(text.starts_with("{\n  \"kind\": \"ConfigMapList\","), "{:.80}", text);
    assert!(text.ends_with("\n}\n"));
    for line in text.lines() {
        let spaces = line.len() - line.trim_start().len();
        assert_eq!(spaces % 2, 0, "{line:.80}");
        let items = line.trim_start().starts_with("\"items\": [");
        assert!(!items || line.ends_with('[') || line.ends_with("[]"), "{line:.80}");
    }
}

#[tokio::test]
async fn a_list_says_the_same_in_every_form_and_size() {
    let fixture = Fixture::new().await;
    for (first, count, bytes) in [(0, 0, 0), (0, 1, 10), (1, 30, 9_000), (31, 200, 100)] {
        for number in first..first + count {
            fixture.create(number, bytes).await;
        }
        let plain = fixture.json(CONFIG_MAPS, "application/json").await;
        let names: Vec<&str> = plain["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|o| o["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names.len(), first + count);

        let exact = at_revision_of(&plain);
        let pretty = fixture.send("GET", &format!("{exact}&pretty=true"), "*/*", Vec::new()).await;
        assert_laid_out(std::str::from_utf8(&pretty).unwrap());
        assert_eq!(serde_json::from_slice::<Value>(&pretty).unwrap(), plain);

        let protobuf = "application/vnd.kubernetes.protobuf";
        let encoded = fixture.send("GET", &exact, protobuf, Vec::new()).await;
        let gvk = schema::GroupVersionKind::new("", "v1", "ConfigMapList");
        let list = codec::protobuf::decode(&encoded, schema::Catalog::builtin().kind(&gvk).unwrap()).unwrap();
        let decoded = serde_json::to_value(&list).unwrap();
        assert_eq!(decoded["items"].as_array().map_or(0, Vec::len), names.len());
        assert_eq!(decoded["metadata"]["resourceVersion"], plain["metadata"]["resourceVersion"]);

        let table = fixture.json(CONFIG_MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
        let rows: Vec<&str> =
            table["rows"].as_array().unwrap().iter().map(|row| row["cells"][0].as_str().unwrap()).collect();
        assert_eq!(rows, names);

        let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
        let partial = fixture.json(CONFIG_MAPS, accept).await;
        let metadata = |list: &Value| -> Vec<Value> {
            list["items"].as_array().unwrap().iter().map(|o| o["metadata"].clone()).collect()
        };
        assert_eq!(metadata(&partial), metadata(&plain));
    }
}

#[tokio::test]
async fn lists_that_are_sent_at_the_same_time_are_the_same() {
    let fixture = Fixture::new().await;
    for number in 0..60 {
        fixture.create(number, 9_000).await;
    }
    let exact = at_revision_of(&fixture.json(CONFIG_MAPS, "application/json").await);
    for query in ["", "&pretty=true", "&labelSelector=odd=1"] {
        let path = format!("{exact}{query}");
        let alone = fixture.send("GET", &path, "*/*", Vec::new()).await;
        let mut bodies = Vec::new();
        for _ in 0..3 {
            let empty = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
            let mut request = Request::builder().uri(&path).body(empty).unwrap();
            request.extensions_mut().insert(UserInfo::authenticated("admin", &["system:masters"]));
            bodies.push(fixture.service.clone().call(request).await.unwrap().into_body());
        }
        let mut received = vec![Vec::new(); bodies.len()];
        let mut more = true;
        while more {
            more = false;
            for (body, received) in bodies.iter_mut().zip(&mut received) {
                if let Some(frame) = body.frame().await {
                    received.extend_from_slice(frame.unwrap().data_ref().unwrap());
                    more = true;
                }
            }
        }
        assert!(received.iter().all(|list| *list == alone), "{query}");
    }
}

#[tokio::test]
async fn absent_fields_are_selected_as_go_prints_their_zero() {
    let fixture = Fixture::new().await;
    let send = |path: &'static str, object: Value| {
        fixture.send("POST", path, "application/json", object.to_string().into_bytes())
    };
    send("/api/v1/nodes", json!({"metadata": {"name": "open"}})).await;
    send("/api/v1/nodes", json!({"metadata": {"name": "closed"}, "spec": {"unschedulable": true}})).await;
    let event = json!({
        "metadata": {"name": "new", "namespace": "default"}, "action": "a", "reason": "r", "type": "Normal",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "here", "reportingInstance": "i",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}
    });
    send("/apis/events.k8s.io/v1/namespaces/default/events", event).await;
    let event = json!({
        "metadata": {"name": "old", "namespace": "default"}, "reason": "r", "type": "Normal",
        "source": {"component": "there"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}
    });
    send("/api/v1/namespaces/default/events", event).await;

    for (path, selector, names) in [
        ("/api/v1/nodes", "spec.unschedulable=false", ["open"].as_slice()),
        ("/api/v1/nodes", "spec.unschedulable=true", &["closed"]),
        ("/api/v1/nodes", "spec.unschedulable!=true", &["open"]),
        ("/api/v1/nodes", "spec.unschedulable=", &[]),
        ("/api/v1/events", "source=here", &["new"]),
        ("/api/v1/events", "source=there", &["old"]),
    ] {
        let list = fixture.json(&format!("{path}?fieldSelector={selector}"), "application/json").await;
        let found: Vec<&str> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|o| o["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(found, names, "{selector}");
    }
}

/// A pod on a node is marked before it goes; a status that is written in between, as kubelets do, removes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deletion_succeeds_when_another_is_faster() {
    const PODS: &str = "/api/v1/namespaces/default/pods";
    const ROUNDS: usize = 60;
    let fixture = Arc::new(Fixture::new().await);
    let account = json!({"metadata": {"name": "default"}}).to_string().into_bytes();
    fixture.send("POST", "/api/v1/namespaces/default/serviceaccounts", "application/json", account).await;
    for number in 0..ROUNDS {
        let pod = json!({
            "metadata": {"name": format!("p-{number}")},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
        });
        fixture.send("POST", PODS, "application/json", pod.to_string().into_bytes()).await;
        let path = format!("{PODS}/p-{number}");
        let kubelets: Vec<_> = (0..3)
            .map(|writer| {
                let (fixture, status) = (fixture.clone(), format!("{path}/status"));
                tokio::spawn(async move {
                    for count in 0.. {
                        let patch = json!({"status": {"message": format!("{writer}-{count}")}});
                        let patch = patch.to_string().into_bytes();
                        if fixture.try_send("PATCH", &status, "*/*", patch).await.0 == StatusCode::NOT_FOUND {
                            return;
                        }
                    }
                })
            })
            .collect();
        let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
        fixture.send("DELETE", &path, "*/*", body.to_string().into_bytes()).await;
        for kubelet in kubelets {
            kubelet.await.unwrap();
        }
        assert_eq!(fixture.try_send("GET", &path, "*/*", Vec::new()).await.0, StatusCode::NOT_FOUND);
    }
}
