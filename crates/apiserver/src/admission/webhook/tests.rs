//! Webhooks end to end: a server in this process, webhooks on real TLS servers.

use std::sync::Arc;

use base64::Engine;
use parking_lot::Mutex;
use schema::{Value, value};

use super::super::testing::{Api, CONFIG_MAPS, config_map};
use crate::webhook::testing::{Asked, WebhookServer};

/// A configuration with one webhook for what `rule` says, with `more` fields.
fn configuration(kind: &str, name: &str, server: &WebhookServer, rule: Value, more: Value) -> Value {
    let mut hook = value!({
        "name": (format!("{name}.example.com")), "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": (server.client_config(&format!("/{name}"))), "rules": [(rule)], "timeoutSeconds": 20
    });
    for (key, value) in more.entries() {
        hook.insert(key.clone(), value.clone());
    }
    value!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "webhooks": [(hook)]
    })
}

const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

fn rule(operations: &[&str], resource: &str) -> Value {
    value!({
        "operations": (operations.to_vec()), "apiGroups": ["*"], "apiVersions": ["*"], "resources": [resource]
    })
}

fn reply(asked: &Asked, mut response: Value) -> (u16, Value) {
    response.insert("uid", asked.body["request"]["uid"].clone());
    let review =
        value!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": (response)});
    (200, review)
}

fn patch(operations: &Value) -> Value {
    let bytes = serde_json::to_vec(operations).unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode(bytes);
    value!({"allowed": true, "patch": text, "patchType": "JSONPatch"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validating_webhooks_see_the_request_and_refuse_it() {
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let noted = seen.clone();
    let server = WebhookServer::start(
        &["h2"],
        Arc::new(move |asked| {
            let request = &asked.body["request"];
            noted.lock().push(request.clone());
            let bad = request.str_at("object.data.bad").is_some();
            let status = value!({"message": "the data is bad", "code": 403, "reason": "Forbidden"});
            reply(asked, value!({"allowed": (!bad), "status": (status), "warnings": ["careful"]}))
        }),
    )
    .await;
    let api = Api::start().await;
    let rule = rule(&["CREATE", "DELETE"], "configmaps");
    let hooks = configuration("ValidatingWebhookConfiguration", "deny", &server, rule, Value::map());
    api.create(VALIDATING, &hooks).await;
    let bad = config_map("bad", value!({"bad": "yes"}));
    let refused =
        api.until(("POST", &format!("{CONFIG_MAPS}?dryRun=All"), Some(&bad)), |a| a.code != 201).await;
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message(),
        "admission webhook \"deny.example.com\" denied the request: the data is bad"
    );
    assert_eq!(refused.warnings, ["299 - \"careful\""]);
    api.create(CONFIG_MAPS, &config_map("good", value!({"a": "b"}))).await;
    let deleted = api.ask("DELETE", &format!("{CONFIG_MAPS}/good"), None).await;
    assert_eq!(deleted.code, 200, "{}", deleted.message());
    let all = seen.lock().clone();
    let create = &all[all.len() - 2];
    assert_eq!(create.str_at("operation"), Some("CREATE"));
    assert_eq!(create["kind"], value!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(create["requestResource"], value!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!(create["oldObject"], Value::Null);
    assert_eq!(create.str_at("name"), Some("good"));
    assert_eq!(create.str_at("namespace"), Some("default"));
    assert_eq!(create.str_at("userInfo.username"), Some("admin"));
    assert_eq!(create.str_at("options.kind"), Some("CreateOptions"));
    let delete = &all[all.len() - 1];
    assert_eq!((delete.str_at("operation"), &delete["object"]), (Some("DELETE"), &Value::Null));
    assert_eq!(delete.str_at("oldObject.data.a"), Some("b"));
    // The configuration itself is no webhook's business, so that a bad one can be taken away.
    let gone = api.ask("DELETE", &format!("{VALIDATING}/deny"), None).await;
    assert_eq!(gone.code, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutating_webhooks_run_by_name_and_again_if_they_want() {
    let calls: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = calls.clone();
    let server = WebhookServer::start(
        &[],
        Arc::new(move |asked| {
            let request = &asked.body["request"];
            let data = |key: &str| request["object"]["data"].get(key).is_some();
            let path = asked.path.split('?').next().unwrap_or_default().to_owned();
            noted.lock().push(path.clone());
            let add =
                |key: &str| patch(&value!([{"op": "add", "path": (format!("/data/{key}")), "value": "1"}]));
            reply(
                asked,
                match path.as_str() {
                    // Only after `second` has run does it have something to do.
                    "/first" if data("two") && !data("three") => add("three"),
                    "/second" if !data("two") => add("two"),
                    _ => value!({"allowed": true}),
                },
            )
        }),
    )
    .await;
    let api = Api::start().await;
    let rule = rule(&["CREATE"], "configmaps");
    let kind = "MutatingWebhookConfiguration";
    let again = value!({"reinvocationPolicy": "IfNeeded"});
    api.create(MUTATING, &configuration(kind, "first", &server, rule.clone(), again)).await;
    api.create(MUTATING, &configuration(kind, "second", &server, rule, Value::map())).await;
    let object = config_map("m", value!({"one": "1"}));
    let path = format!("{CONFIG_MAPS}?dryRun=All");
    let answer = api.until(("POST", &path, Some(&object)), |a| a.body["data"].get("three").is_some()).await;
    assert_eq!(answer.body["data"], value!({"one": "1", "two": "1", "three": "1"}));
    let calls = calls.lock();
    assert_eq!(calls[calls.len() - 3..], ["/first", "/second", "/first"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_policies_selectors_and_dry_runs() {
    let server = WebhookServer::start(&[], Arc::new(|_| (500, value!({})))).await;
    let api = Api::start().await;
    let rule = rule(&["CREATE"], "configmaps");
    let kind = "ValidatingWebhookConfiguration";
    let limited = |failures: &str, label: &str| {
        value!({
            "failurePolicy": failures, "objectSelector": {"matchLabels": {"hook": label}},
            "sideEffects": (if label == "loud" { "NoneOnDryRun" } else { "None" })
        })
    };
    api.create(VALIDATING, &configuration(kind, "fail", &server, rule.clone(), limited("Fail", "fail")))
        .await;
    api.create(VALIDATING, &configuration(kind, "ignore", &server, rule, limited("Ignore", "ignore"))).await;
    let labelled = |label: &str| {
        let mut object = config_map("x", Value::map());
        object.set("metadata.labels", value!({"hook": label}));
        object
    };
    let path = format!("{CONFIG_MAPS}?dryRun=All");
    let failed = api.until(("POST", &path, Some(&labelled("fail"))), |a| a.code != 201).await;
    assert_eq!(failed.code, 500);
    assert_eq!(
        failed.message(),
        "Internal error occurred: failed calling webhook \"fail.example.com\": failed to call webhook: an error on \
         the server (\"{}\") has prevented the request from succeeding"
    );
    for label in ["ignore", "other"] {
        assert_eq!(api.ask("POST", &path, Some(&labelled(label))).await.code, 201, "{label}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equivalent_versions_are_converted_for_the_rule() {
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let noted = seen.clone();
    let server = WebhookServer::start(
        &[],
        Arc::new(move |asked| {
            noted.lock().push(asked.body["request"].clone());
            reply(asked, value!({"allowed": false}))
        }),
    )
    .await;
    let api = Api::start().await;
    let rule = value!({
        "operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"],
        "resources": ["horizontalpodautoscalers"]
    });
    let hooks = configuration("ValidatingWebhookConfiguration", "old", &server, rule, Value::map());
    api.create(VALIDATING, &hooks).await;
    let scaler = value!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}
            }}]
        }
    });
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers?dryRun=All";
    let refused = api.until(("POST", path, Some(&scaler)), |a| a.code != 201).await;
    assert_eq!(
        refused.message(),
        "admission webhook \"old.example.com\" denied the request without explanation"
    );
    let request = seen.lock().last().unwrap().clone();
    assert_eq!(request.str_at("kind.version"), Some("v1"));
    assert_eq!(request.str_at("requestKind.version"), Some("v2"));
    assert_eq!(request.str_at("object.apiVersion"), Some("autoscaling/v1"));
    assert_eq!(request.int_at("object.spec.targetCPUUtilizationPercentage"), Some(50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subresources_are_admitted_with_their_own_kinds() {
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let noted = seen.clone();
    let server = WebhookServer::start(
        &[],
        Arc::new(move |asked| {
            noted.lock().push(asked.body["request"].clone());
            reply(asked, value!({"allowed": false, "status": {"message": "not here"}}))
        }),
    )
    .await;
    let api = Api::start().await;
    let account = value!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    api.create("/api/v1/namespaces/default/serviceaccounts", &account).await;
    let pod = value!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}
    });
    api.create("/api/v1/namespaces/default/pods", &pod).await;
    let rule = value!({
        "operations": ["CREATE", "CONNECT"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["pods/*", "serviceaccounts/token"]
    });
    let hooks = configuration("ValidatingWebhookConfiguration", "sub", &server, rule, Value::map());
    api.create(VALIDATING, &hooks).await;
    let binding = value!({
        "apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}
    });
    let eviction = value!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let token = value!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["a"]}});
    let pod = "/api/v1/namespaces/default/pods/p";
    let mut asked = Vec::new();
    for (path, body, operation, kind) in [
        (format!("{pod}/exec?command=ls&stdout=true"), None, "CONNECT", "PodExecOptions"),
        (format!("{pod}/binding"), Some(&binding), "CREATE", "Binding"),
        (format!("{pod}/eviction"), Some(&eviction), "CREATE", "Eviction"),
        (
            "/api/v1/namespaces/default/serviceaccounts/default/token".to_owned(),
            Some(&token),
            "CREATE",
            "TokenRequest",
        ),
    ] {
        let refused = match asked.is_empty() {
            // Only this one can be tried again and again without doing anything.
            true => api.until(("POST", &path, body), |a| a.message().contains("denied")).await,
            false => api.ask("POST", &path, body).await,
        };
        let words = "admission webhook \"sub.example.com\" denied the request: not here";
        assert_eq!((refused.code, refused.message()), (400, words), "{path}");
        let request = seen.lock().last().unwrap().clone();
        assert_eq!(request.str_at("operation"), Some(operation));
        assert_eq!(request.str_at("kind.kind"), Some(kind));
        assert_eq!(request.str_at("object.kind"), Some(kind));
        assert_eq!(request.str_at("name"), Some(if kind == "TokenRequest" { "default" } else { "p" }));
        asked.push(request);
    }
    assert_eq!(asked[0]["object"]["command"], value!(["ls"]));
    assert_eq!(asked[1].str_at("subResource"), Some("binding"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn built_in_plugins_bear_being_asked_twice() {
    let server = WebhookServer::start(
        &[],
        Arc::new(|asked| {
            let image = asked.body["request"]["object"]["spec"]["initContainers"].is_null();
            let container = value!([{"op": "add", "path": "/spec/initContainers", "value": [{"name": "i", "image": "x"}]}]);
            reply(asked, if image { patch(&container) } else { value!({"allowed": true}) })
        }),
    )
    .await;
    let api = Api::start().await;
    let account = value!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    api.create("/api/v1/namespaces/default/serviceaccounts", &account).await;
    let hooks = configuration(
        "MutatingWebhookConfiguration",
        "init",
        &server,
        rule(&["CREATE"], "pods"),
        Value::map(),
    );
    api.create(MUTATING, &hooks).await;
    let pod = value!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}], "priorityClassName": "system-node-critical"}
    });
    let path = "/api/v1/namespaces/default/pods?dryRun=All";
    let answer = api.until(("POST", path, Some(&pod)), |a| !a.body["spec"]["initContainers"].is_null()).await;
    assert_eq!(answer.code, 201, "{}", answer.message());
    let spec = &answer.body["spec"];
    assert_eq!(spec.items_at("volumes").len(), 1);
    for list in ["initContainers", "containers"] {
        let container = &spec.items_at(list)[0];
        assert_eq!(container.items_at("volumeMounts").len(), 1, "{list}");
        // What the webhook brought has its defaults, too.
        assert_eq!(container.str_at("terminationMessagePolicy"), Some("File"));
    }
    assert_eq!(spec.items_at("tolerations").len(), 2);
}
