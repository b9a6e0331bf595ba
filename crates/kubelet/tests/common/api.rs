//! A small API server in memory: lists, watches, patches, graceful deletion of pods, tokens, reviews.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::UserInfo;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// `/api/v1/namespaces/n/pods/p/status` taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    group: String,
    resource: String,
    namespace: String,
    name: String,
}

#[derive(Default)]
struct Store {
    version: u64,
    objects: BTreeMap<Key, Value>,
    history: Vec<(u64, &'static str, Key, Value)>,
    requests: Vec<String>,
}

/// The server; clones share it.
#[derive(Clone)]
pub struct Api {
    store: Arc<Mutex<Store>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Api {
    pub fn new() -> Self {
        Self { store: Arc::default(), changed: Arc::new(watch::channel(0).0) }
    }

    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<client::RequestBody>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        client::in_process(service, UserInfo::authenticated("system:node:node", &["system:nodes"]), "kubelet")
    }

    /// Creates or replaces an object at `path`, e.g. `/api/v1/namespaces/n/pods/p`.
    pub fn put(&self, path: &str, object: Value) {
        let (key, _) = parse(path);
        let kind = if self.store.lock().unwrap().objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        self.write(kind, key, object);
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.store.lock().unwrap().objects.get(&parse(path).0).cloned()
    }

    pub fn delete(&self, path: &str, grace_s: i64) {
        self.remove(&parse(path).0, Some(grace_s));
    }

    /// Every write request so far, as `METHOD path`.
    pub fn requests(&self) -> Vec<String> {
        self.store.lock().unwrap().requests.clone()
    }

    /// Reasons of all events, in order.
    pub fn event_reasons(&self) -> Vec<String> {
        let store = self.store.lock().unwrap();
        let events =
            store.history.iter().filter(|(_, kind, key, _)| *kind == "ADDED" && key.resource == "events");
        events.map(|(.., e)| e["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until the object at `path` satisfies `test`; `None` is an absent one. Gives it, or fails after half a minute.
    pub async fn until(&self, path: &str, test: impl Fn(Option<&Value>) -> bool) -> Option<Value> {
        let mut changed = self.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                let now = self.get(path);
                if test(now.as_ref()) {
                    return now;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), wait).await {
            Ok(found) => found,
            Err(_) => panic!("{path} is still {:#}", self.get(path).unwrap_or_default()),
        }
    }

    fn write(&self, kind: &'static str, key: Key, mut object: Value) -> Value {
        let mut store = self.store.lock().unwrap();
        store.version += 1;
        let version = store.version;
        let meta = object["metadata"].as_object_mut().unwrap();
        meta.insert("resourceVersion".into(), version.to_string().into());
        meta.insert("name".into(), key.name.clone().into());
        if !key.namespace.is_empty() {
            meta.insert("namespace".into(), key.namespace.clone().into());
        }
        meta.entry("uid").or_insert_with(|| format!("uid-{version}").into());
        if kind == "DELETED" {
            store.objects.remove(&key);
        } else {
            store.objects.insert(key.clone(), object.clone());
        }
        store.history.push((version, kind, key, object.clone()));
        drop(store);
        self.changed.send_replace(version);
        object
    }

    fn remove(&self, key: &Key, grace_s: Option<i64>) -> Option<Value> {
        let mut object = self.store.lock().unwrap().objects.get(key).cloned()?;
        let graceful = key.resource == "pods" && grace_s != Some(0);
        if !graceful {
            return Some(self.write("DELETED", key.clone(), object));
        }
        if object["metadata"]["deletionTimestamp"].is_null() {
            let grace = grace_s.or(object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30);
            object["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z".into();
            object["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            return Some(self.write("MODIFIED", key.clone(), object));
        }
        Some(object)
    }

    async fn answer(&self, request: Request<client::RequestBody>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query: BTreeMap<String, String> = form(parts.uri.query().unwrap_or_default());
        let (key, subresource) = parse(&path);
        let method = parts.method.as_str();
        if method == "GET" {
            return self.read(&key, &query);
        }
        self.store.lock().unwrap().requests.push(format!("{method} {path}"));
        let body: Value = match body.collect().await {
            Ok(body) => serde_json::from_slice(&body.to_bytes()).unwrap_or_default(),
            Err(_) => return status(StatusCode::BAD_REQUEST, "body"),
        };
        let there = self.store.lock().unwrap().objects.get(&key).cloned();
        match (method, there) {
            ("POST", _) if subresource == "token" => ok(json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": body["spec"],
                "status": {"token": format!("token-{}", key.name), "expirationTimestamp": "2999-01-01T00:00:00Z"},
            })),
            ("POST", _) if key.resource == "subjectaccessreviews" => {
                let mut review = body;
                review["status"] = json!({"allowed": review["spec"]["user"] == "admin"});
                ok(review)
            }
            ("POST", _) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let key = Key { name, ..key };
                if self.store.lock().unwrap().objects.contains_key(&key) {
                    return status(StatusCode::CONFLICT, "AlreadyExists");
                }
                ok(self.write("ADDED", key, body))
            }
            (_, None) => status(StatusCode::NOT_FOUND, "NotFound"),
            ("PUT", Some(_)) => ok(self.write("MODIFIED", key, body)),
            ("PATCH", Some(there)) => {
                let uid = &body["metadata"]["uid"];
                if !uid.is_null() && *uid != there["metadata"]["uid"] {
                    return status(StatusCode::CONFLICT, "Conflict");
                }
                ok(self.write("MODIFIED", key, merged(&there, &body)))
            }
            ("DELETE", Some(there)) => {
                let uid = &body["preconditions"]["uid"];
                if !uid.is_null() && *uid != there["metadata"]["uid"] {
                    return status(StatusCode::CONFLICT, "Conflict");
                }
                ok(self.remove(&key, body["gracePeriodSeconds"].as_i64()).unwrap_or_default())
            }
            _ => status(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }

    fn read(&self, key: &Key, query: &BTreeMap<String, String>) -> Response<Body> {
        if !key.name.is_empty() {
            return match self.store.lock().unwrap().objects.get(key) {
                Some(object) => ok(object.clone()),
                None => status(StatusCode::NOT_FOUND, "NotFound"),
            };
        }
        let selector = query.get("fieldSelector").cloned().unwrap_or_default();
        if query.contains_key("watch") {
            let from = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
            return self.watch(key.clone(), selector, from);
        }
        let store = self.store.lock().unwrap();
        let items =
            store.objects.iter().filter(|(k, o)| selected(key, &selector, k, o)).map(|(_, o)| o.clone());
        ok(json!({"kind": "List", "apiVersion": "v1", "items": items.collect::<Vec<_>>(),
            "metadata": {"resourceVersion": store.version.to_string()}}))
    }

    fn watch(&self, key: Key, selector: String, from: u64) -> Response<Body> {
        let (store, changed) = (self.store.clone(), self.changed.subscribe());
        let state = (store, changed, from);
        let stream = futures::stream::unfold(state, move |(store, mut changed, mut from)| {
            let (key, selector) = (key.clone(), selector.clone());
            async move {
                loop {
                    changed.borrow_and_update();
                    let next = {
                        let store = store.lock().unwrap();
                        let mut later = store.history.iter().filter(|(version, ..)| *version > from);
                        let found = later.find(|(_, _, k, o)| selected(&key, &selector, k, o)).cloned();
                        if found.is_none() {
                            from = store.version.max(from);
                        }
                        found
                    };
                    if let Some((version, kind, _, object)) = next {
                        let line = format!("{}\n", json!({"type": kind, "object": object}));
                        let frame = http_body::Frame::data(Bytes::from(line));
                        return Some((Ok::<_, Infallible>(frame), (store, changed, version)));
                    }
                    changed.changed().await.ok()?;
                }
            }
        });
        Response::new(StreamBody::new(stream).boxed_unsync())
    }
}

fn form(text: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| text.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), decode(v))).collect()
}

fn selected(wanted: &Key, selector: &str, key: &Key, object: &Value) -> bool {
    let same = wanted.group == key.group
        && wanted.resource == key.resource
        && (wanted.namespace.is_empty() || wanted.namespace == key.namespace);
    same && selector.split(',').filter(|s| !s.is_empty()).all(|requirement| {
        let (path, value) = requirement.split_once('=').unwrap();
        let found = path.split('.').fold(object, |at, part| &at[part]);
        found.as_str().unwrap_or_default() == value
    })
}

fn parse(path: &str) -> (Key, String) {
    let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let group_length = if parts[0] == "api" { 2 } else { 3 };
    let group = parts.drain(..group_length).collect::<Vec<_>>().join("/");
    let namespaced = parts[0] == "namespaces" && parts.len() > 2;
    let namespace =
        if namespaced { parts.drain(..2).nth(1).unwrap_or_default().to_owned() } else { String::new() };
    let part = |index: usize| parts.get(index).map(|p| (*p).to_owned()).unwrap_or_default();
    (Key { group, resource: part(0), namespace, name: part(1) }, part(2))
}

fn merged(old: &Value, patch: &Value) -> Value {
    let (Some(old), Some(patch)) = (old.as_object(), patch.as_object()) else { return patch.clone() };
    let mut out: Map<String, Value> = old.clone();
    for (key, value) in patch.iter().filter(|(k, _)| !k.starts_with("$setElementOrder")) {
        let merge_key = match key.as_str() {
            "conditions" => Some("type"),
            "podIPs" | "hostIPs" => Some("ip"),
            _ => None,
        };
        let value = match (value, merge_key) {
            (Value::Null, _) => {
                out.remove(key);
                continue;
            }
            (Value::Array(items), Some(merge_key)) => merged_list(old.get(key), items, merge_key),
            (Value::Array(items), None) => {
                items.iter().filter(|i| i.get("$patch").is_none()).cloned().collect()
            }
            (value, _) => merged(old.get(key).unwrap_or(&Value::Null), value),
        };
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}

fn merged_list(old: Option<&Value>, items: &[Value], merge_key: &str) -> Value {
    let mut out: Vec<Value> = old.and_then(Value::as_array).cloned().unwrap_or_default();
    for item in items {
        let at = out.iter().position(|o| o[merge_key] == item[merge_key]);
        match (at, item["$patch"] == "delete") {
            (Some(at), true) => drop(out.remove(at)),
            (Some(at), false) => out[at] = merged(&out[at], item),
            (None, false) => out.push(item.clone()),
            (None, true) => {}
        }
    }
    out.into()
}

fn ok(value: Value) -> Response<Body> {
    answer(StatusCode::OK, value)
}

fn status(code: StatusCode, reason: &str) -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": reason, "reason": reason, "code": code.as_u16()});
    answer(code, status)
}

fn answer(code: StatusCode, value: Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync());
    *response.status_mut() = code;
    response
}
