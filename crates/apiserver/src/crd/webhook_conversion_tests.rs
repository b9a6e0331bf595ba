//! Custom resources in two versions, converted by a webhook on a real TLS server.

use std::sync::Arc;

use schema::{Value, value};

use crate::admission::testing::Api;
use crate::webhook::testing::{Asked, WebhookServer};

/// `v1` has `host`, `v2` has `hosts`: converts as ConversionReview asks.
fn convert(asked: &Asked) -> (u16, Value) {
    let request = &asked.body["request"];
    let wanted = request.str_at("desiredAPIVersion").unwrap().to_owned();
    let one = |object: &Value| {
        let mut object = object.clone();
        object.insert("apiVersion", wanted.as_str());
        if wanted.ends_with("v2") {
            let host = object.str_at("spec.host").unwrap_or_default().to_owned();
            object.insert("spec", value!({"hosts": [host]}));
        } else {
            let host = object.items_at("spec.hosts").first().cloned().unwrap_or_default();
            object.insert("spec", value!({"host": (host)}));
        }
        object
    };
    let converted: Vec<Value> = request.items_at("objects").iter().map(one).collect();
    let review = value!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "response": {
            "uid": (request["uid"].clone()), "result": {"status": "Success"}, "convertedObjects": (Value::List(converted))
        }
    });
    (200, review)
}

fn definition(server: &WebhookServer) -> Value {
    let version = |name: &str, storage: bool, spec: Value| {
        value!({
            "name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": (spec)}}
            }}
        })
    };
    let hosts = value!({"hosts": {"type": "array", "items": {"type": "string"}}});
    value!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "sites.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "sites", "singular": "site", "kind": "Site", "listKind": "SiteList"},
            "versions": [
                (version("v1", true, value!({"host": {"type": "string", "maxLength": 10}}))),
                (version("v2", false, hosts))
            ],
            "conversion": {"strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"], "clientConfig": (server.client_config("/convert"))
            }}
        }
    })
}

fn site(version: &str, name: &str, spec: Value) -> Value {
    value!({
        "apiVersion": (format!("example.com/{version}")), "kind": "Site", "metadata": {"name": name}, "spec": (spec)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_are_read_and_written() {
    let server = WebhookServer::start(&["h2"], Arc::new(convert)).await;
    let api = Api::start().await;
    api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition(&server)).await;
    let (v1, v2) =
        ("/apis/example.com/v1/namespaces/default/sites", "/apis/example.com/v2/namespaces/default/sites");
    let first = site("v1", "a", value!({"host": "one"}));
    api.until(("POST", v1, Some(&first)), |a| a.code == 201).await;
    let created = api.create(v2, &site("v2", "b", value!({"hosts": ["two"]}))).await;
    assert_eq!(
        (created.str_at("apiVersion"), &created["spec"]),
        (Some("example.com/v2"), &value!({"hosts": ["two"]}))
    );
    let stored = api.ask("GET", &format!("{v1}/b"), None).await;
    assert_eq!(
        (stored.body.str_at("apiVersion"), stored.body.str_at("spec.host")),
        (Some("example.com/v1"), Some("two"))
    );
    let list = api.ask("GET", v2, None).await.body;
    let hosts: Vec<&Value> = list.items_at("items").iter().map(|i| &i["spec"]["hosts"]).collect();
    assert_eq!(hosts, [&value!(["one"]), &value!(["two"])]);
    let patched = api
        .ask("PATCH", &format!("{v2}/a?fieldManager=m"), Some(&value!({"spec": {"hosts": ["new"]}})))
        .await;
    assert_eq!(
        (patched.code, &patched.body["spec"]),
        (200, &value!({"hosts": ["new"]})),
        "{}",
        patched.message()
    );
    assert_eq!(api.ask("GET", &format!("{v1}/a"), None).await.body.str_at("spec.host"), Some("new"));
    let long = api.ask("POST", v2, Some(&site("v2", "c", value!({"hosts": ["much too long"]})))).await;
    assert_eq!(long.code, 422, "{}", long.message());
    drop(server);
    let failed = api.ask("GET", &format!("{v2}/a"), None).await;
    assert_eq!(failed.code, 500);
    assert!(
        failed
            .message()
            .starts_with("conversion webhook for example.com/v1, Kind=Site failed: Post \"https://"),
        "{}",
        failed.message()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_stored_before_the_storage_version_changes_are_converted() {
    let server = WebhookServer::start(&[], Arc::new(convert)).await;
    let api = Api::start().await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut definition = definition(&server);
    api.create(definitions, &definition).await;
    let v1 = "/apis/example.com/v1/namespaces/default/sites";
    let first = site("v1", "a", value!({"host": "one"}));
    api.until(("POST", v1, Some(&first)), |a| a.code == 201).await;
    for (i, storage) in [(0, false), (1, true)] {
        let versions = definition.at_mut("spec.versions").and_then(Value::as_list_mut).unwrap();
        versions[i].insert("storage", storage);
    }
    let changed = value!({"spec": {"versions": (definition["spec"]["versions"].clone())}});
    let answer = api.ask("PATCH", &format!("{definitions}/sites.example.com"), Some(&changed)).await;
    assert_eq!(answer.code, 200, "{}", answer.message());
    let second = site("v1", "b", value!({"host": "longer than ten"}));
    // Only as v2, which has no limit, can it be stored.
    api.until(("POST", v1, Some(&second)), |a| a.code == 201).await;
    let v2 = "/apis/example.com/v2/namespaces/default/sites";
    let list = api.ask("GET", v2, None).await.body;
    let hosts: Vec<&Value> = list.items_at("items").iter().map(|i| &i["spec"]["hosts"]).collect();
    assert_eq!(hosts, [&value!(["one"]), &value!(["longer than ten"])]);
    let labels = value!({"metadata": {"labels": {"a": "b"}}});
    let touched = api.ask("PATCH", &format!("{v2}/a"), Some(&labels)).await;
    assert_eq!(
        (touched.code, touched.body.int_at("metadata.generation")),
        (200, Some(1)),
        "{}",
        touched.message()
    );
    assert_eq!(touched.body["spec"], value!({"hosts": ["one"]}));
}
