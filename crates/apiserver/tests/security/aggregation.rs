//! Another API server behind this one.

use apiserver::Options;
use base::TaskScope;
use base64::Engine;
use http::Method;
use pki::KeyPairFiles;

use crate::fake::{Fake, Seen};
use crate::server::{TestServer, authority, eventually, identity};

fn answer(seen: &Seen) -> (u16, String) {
    let path = seen.path.split('?').next().unwrap();
    match path {
        "/apis/things.example.com/v1" => (
            200,
            r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"things.example.com/v1",
               "resources":[{"name":"things","singularName":"thing","namespaced":true,"kind":"Thing","verbs":["get","list"]}]}"#
                .to_owned(),
        ),
        "/apis/things.example.com/v1/namespaces/default/things" => {
            (200, r#"{"kind":"ThingList","items":[]}"#.to_owned())
        }
        _ => (404, "{}".to_owned()),
    }
}

fn api_service(port: u16, bundle: &str) -> String {
    let bundle = base64::engine::general_purpose::STANDARD.encode(bundle);
    format!(
        r#"{{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{{"name":"v1.things.example.com"}},
        "spec":{{"group":"things.example.com","version":"v1","groupPriorityMinimum":100,"versionPriority":10,
        "caBundle":"{bundle}","service":{{"namespace":"default","name":"things","port":{port}}}}}}}"#
    )
}

#[tokio::test]
async fn requests_for_other_servers_are_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_owned();
    let scope = TaskScope::new("aggregated");
    let (ca, _) = authority(&at, "things-ca");
    let (proxies, _) = authority(&at, "proxies-ca");
    let KeyPairFiles { certificate, key } = identity(&proxies, &at, "aggregator", &[]);
    let other = Fake::start(&scope, &ca, &at, "things.default.svc", answer).await;
    let server = TestServer::start(
        folder,
        Options {
            proxy_client_cert_file: Some(certificate),
            proxy_client_key_file: Some(key),
            ..Options::default()
        },
    )
    .await;
    let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"things"},
                      "spec":{"type":"ExternalName","externalName":"localhost"}}"#;
    let made = server.as_token("tok", Method::POST, "/api/v1/namespaces/default/services", service).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let object = api_service(other.address.port(), ca.certificate_pem());
    let made = server.as_token("tok", Method::POST, services, &object).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let own = format!("{services}/v1.things.example.com");
    eventually(|| async {
        let found = server.as_token("tok", Method::GET, &own, "").await.json();
        let condition = found.items_at("status.conditions").first()?.clone();
        (condition.str_at("status") == Some("True") && condition.str_at("reason") == Some("Passed"))
            .then_some(())
    })
    .await;

    let things = "/apis/things.example.com/v1/namespaces/default/things?limit=5";
    let list = eventually(|| async {
        let answer = server.as_token("tok", Method::GET, things, "").await;
        (answer.code == 200).then_some(answer)
    })
    .await;
    assert_eq!(list.json().str_at("kind"), Some("ThingList"));
    let seen = other.seen.lock().unwrap().iter().rev().find(|s| s.path == things).cloned().unwrap();
    assert_eq!(seen.headers["x-remote-user"], "admin");
    assert!(seen.headers.get_all("x-remote-group").iter().any(|g| g == "system:masters"));
    assert!(!seen.headers.contains_key("authorization"), "the token stays here");
    assert_eq!(server.as_token("joe", Method::GET, things, "").await.code, 403, "authorization is done here");

    eventually(|| async {
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let headers = [("authorization", "Bearer tok"), ("accept", accept)];
        let found = server.ask(Method::GET, "/apis", &headers, "", None).await.json();
        let group = found
            .items_at("items")
            .iter()
            .find(|g| g.str_at("metadata.name") == Some("things.example.com"))?;
        let version = &group.items_at("versions")[0];
        (version.items_at("resources").first()?.str_at("resource") == Some("things")).then_some(())
    })
    .await;
    let groups = server.as_token("tok", Method::GET, "/apis", "").await.json();
    assert!(groups.items_at("groups").iter().any(|g| g.str_at("name") == Some("things.example.com")));
    let group = server.as_token("tok", Method::GET, "/apis/things.example.com", "").await.json();
    assert_eq!(group.str_at("preferredVersion.groupVersion"), Some("things.example.com/v1"));
    scope.cancel();
}

#[tokio::test]
async fn what_cannot_be_had_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start(folder, Options::default()).await;
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let made = server.as_token("tok", Method::POST, services, &api_service(443, "")).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let own = format!("{services}/v1.things.example.com");
    eventually(|| async {
        let found = server.as_token("tok", Method::GET, &own, "").await.json();
        let condition = found.items_at("status.conditions").first()?.clone();
        (condition.str_at("reason") == Some("ServiceNotFound")).then_some(())
    })
    .await;
    let answer = server.as_token("tok", Method::GET, "/apis/things.example.com/v1/things", "").await;
    assert_eq!((answer.code, answer.text.as_str()), (503, "service unavailable\n"));
}
