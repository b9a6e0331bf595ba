//! The audit log of a real server.

use apiserver::Options;
use apiserver::options::AuditOptions;
use http::Method;
use schema::Value;

use crate::server::{TestServer, eventually};

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- {level: None, users: ['system:apiserver']}
- {level: RequestResponse, resources: [{group: '', resources: [configmaps]}], omitStages: [RequestReceived]}
- {level: Metadata, verbs: [watch]}
- {level: Metadata, resources: [{group: '', resources: [secrets]}]}
";

fn events(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn events_are_written_as_the_policy_says() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, log) = (folder.path().join("policy.yaml"), folder.path().join("audit.log"));
    std::fs::write(&policy, POLICY).unwrap();
    let audit =
        AuditOptions { policy_file: Some(policy), log_path: Some(log.clone()), ..AuditOptions::default() };
    let server = TestServer::start(folder, Options { audit, ..Options::default() }).await;
    let map = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m"},"data":{"a":"b"}}"#;
    let maps = "/api/v1/namespaces/default/configmaps";
    let headers = [
        ("authorization", "Bearer tok"),
        ("audit-id", "my-id"),
        ("impersonate-user", "eve"),
        ("impersonate-group", "system:masters"),
    ];
    let made = server.ask(Method::POST, maps, &headers, map, None).await;
    assert_eq!(made.code, 201, "{}", made.text);
    assert_eq!(made.headers["audit-id"], "my-id");
    let refused = server.as_token("joe", Method::GET, "/api/v1/namespaces/default/secrets", "").await;
    assert_eq!(refused.code, 403);

    let all = events(&log);
    let of = |id: &str| all.iter().filter(|e| e.str_at("auditID") == Some(id)).cloned().collect::<Vec<_>>();
    let made = of("my-id");
    assert_eq!(made.len(), 1, "the first stage is omitted");
    let event = &made[0];
    assert_eq!(event.str_at("stage"), Some("ResponseComplete"));
    assert_eq!(event.str_at("user.username"), Some("admin"));
    assert_eq!(event.str_at("impersonatedUser.username"), Some("eve"));
    assert_eq!(event["requestObject"]["data"]["a"].as_str(), Some("b"));
    assert!(!event["responseObject"]["metadata"]["uid"].is_null());
    assert!(event["responseObject"]["metadata"]["managedFields"].is_null());
    assert_eq!(event.int_at("responseStatus.code"), Some(201));
    assert_eq!(event["sourceIPs"].items()[0].as_str(), Some("127.0.0.1"));
    let refused: Vec<&Value> =
        all.iter().filter(|e| e.str_at("objectRef.resource") == Some("secrets")).collect();
    assert_eq!(refused.len(), 2, "received and answered");
    assert_eq!(refused[1]["annotations"]["authorization.k8s.io/decision"].as_str(), Some("forbid"));
    assert_eq!(refused[1].int_at("responseStatus.code"), Some(403));
    assert!(refused[1]["requestObject"].is_null());
}

#[tokio::test]
async fn a_watch_has_an_event_when_it_begins_and_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (policy, log) = (folder.path().join("policy.yaml"), folder.path().join("audit.log"));
    std::fs::write(&policy, POLICY).unwrap();
    let audit =
        AuditOptions { policy_file: Some(policy), log_path: Some(log.clone()), ..AuditOptions::default() };
    let server = TestServer::start(folder, Options { audit, ..Options::default() }).await;
    let watch = "/api/v1/pods?watch=1&timeoutSeconds=1";
    assert_eq!(server.as_token("tok", Method::GET, watch, "").await.code, 200);
    let stages = eventually(|| async {
        let of_watch = |e: &Value| e.str_at("requestURI") == Some(watch);
        let all: Vec<Value> = events(&log).into_iter().filter(of_watch).collect();
        (all.len() == 3)
            .then(|| all.iter().map(|e| e.str_at("stage").unwrap().to_owned()).collect::<Vec<_>>())
    })
    .await;
    assert_eq!(stages, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
}
