//! What operators see of a server.

use apiserver::Options;
use base::TaskScope;
use http::Method;

use crate::server::{TestServer, eventually};

#[tokio::test]
async fn pages_and_metrics_say_what_there_is() {
    let options = Options {
        flags: vec![("secure-port".to_owned(), "1".to_owned())],
        runtime_config: vec![("batch/v1".to_owned(), false)],
        ..Options::default()
    };
    let server = TestServer::start(tempfile::tempdir().unwrap(), options).await;
    let get = async |path: &str| server.as_token("tok", Method::GET, path, "").await;
    let path = "/api/v1/namespaces/default/configmaps";
    let made = server.as_token("tok", Method::POST, path, r#"{"metadata":{"name":"counted"}}"#).await;
    assert_eq!(made.code, 201, "{}", made.text);
    assert_eq!(get(&format!("{path}/counted")).await.code, 200);
    let metrics = get("/metrics").await.text;
    for name in [
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"}",
        "apiserver_storage_objects{resource=\"namespaces\"} 4",
        "apiserver_resource_objects{group=\"\",resource=\"namespaces\"} 4",
        "apiserver_request_total{component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\",scope=\"resource\",\
         subresource=\"\",verb=\"POST\",version=\"v1\",code=\"201\"} 1",
        "apiserver_response_sizes_count{component=\"apiserver\",group=\"\",resource=\"configmaps\"",
        "apiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"false\",type=\"admit\"}",
        "apiserver_admission_controller_admission_duration_seconds_count{name=\"NamespaceLifecycle\"",
        "etcd_request_duration_seconds_count{group=\"\",operation=\"create\",resource=\"configmaps\"}",
        "authentication_attempts{result=\"success\"}",
        "authorization_attempts_total{result=\"allowed\"}",
        "apiserver_storage_objects{resource=\"clusterroles.rbac.authorization.k8s.io\"}",
        "process_resident_memory_bytes",
        "process_open_fds",
        "kubernetes_build_info",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    assert!(get("/flagz").await.text.contains("secure-port=1"));
    assert!(get("/statusz").await.text.contains("Binary version: 1.36"));
    assert_eq!(get("/configz").await.code, 200);
    assert_eq!(get("/debug/pprof/heap").await.code, 501);
    assert_eq!(server.as_token("joe", Method::GET, "/flagz", "").await.code, 403);
    assert_eq!(get("/readyz/poststarthook/rbac/bootstrap-roles").await.text, "ok");
    assert_eq!(get("/readyz/nothing").await.code, 404);
    assert!(get("/readyz?verbose").await.text.contains("[+]etcd-readiness ok"));
    assert_eq!(get("/apis/batch/v1/jobs").await.code, 404, "switched off");
    assert_eq!(get("/apis/apps/v1/deployments").await.code, 200);
}

#[tokio::test]
async fn refused_names_are_not_repeated_in_metrics() {
    let server = TestServer::start(tempfile::tempdir().unwrap(), Options::default()).await;
    let path = "/apis/made.up/v1/namespaces/default/nonsense";
    assert_eq!(server.as_token("joe", Method::GET, path, "").await.code, 403);
    let metrics = server.as_token("tok", Method::GET, "/metrics", "").await.text;
    assert!(metrics.contains("code=\"403\"") && !metrics.contains("nonsense"), "{metrics}");
}

#[tokio::test]
async fn a_server_says_that_it_is_there() {
    let server = TestServer::start(tempfile::tempdir().unwrap(), Options::default()).await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases\
                  ?labelSelector=apiserver.kubernetes.io/identity%3Dkube-apiserver";
    eventually(|| async {
        let found = server.as_token("tok", Method::GET, leases, "").await.json();
        let lease = found.items_at("items").first()?.clone();
        lease.str_at("metadata.name")?.starts_with("apiserver-").then_some(())
    })
    .await;
    let map =
        "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    eventually(|| async { (server.as_token("tok", Method::GET, map, "").await.code == 200).then_some(()) })
        .await;
}

#[tokio::test]
async fn wrong_settings_are_refused_by_name() {
    for (options, flag) in [
        (Options { tls_min_version: "VersionTLS99".to_owned(), ..Options::default() }, "tls-min-version"),
        (Options { tls_cipher_suites: vec!["NOPE".to_owned()], ..Options::default() }, "tls-cipher-suites"),
        (Options { runtime_config: vec![("x/v9".to_owned(), true)], ..Options::default() }, "runtime-config"),
        (
            Options { authorization_mode: vec!["ABAC".to_owned()], ..Options::default() },
            "authorization-policy-file",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { cert_dir: folder.path().to_owned(), ..options };
        let scope = TaskScope::new("refused");
        let store = std::sync::Arc::new(store::Embedded::in_memory(base::system_clock()).unwrap());
        let made = apiserver::Server::new(options, store, base::system_clock(), &scope).await;
        let error = made.and_then(|server| server.tls().map(drop)).expect_err(flag).to_string();
        assert!(error.contains(flag), "{error}");
        scope.cancel();
    }
}

#[tokio::test]
async fn reviews_are_checked_before_they_are_answered() {
    let server = TestServer::start(tempfile::tempdir().unwrap(), Options::default()).await;
    let post = async |path: &str, body: &str| server.as_token("tok", Method::POST, path, body).await;
    let access = "/apis/authorization.k8s.io/v1";
    let own = format!("{access}/selfsubjectaccessreviews");
    for (path, body, code, words) in [
        (format!("{access}/selfsubjectrulesreviews"), r#"{"spec":{}}"#, 400, "no namespace on request"),
        (
            own.clone(),
            r#"{"metadata":{"name":"x"},"spec":{"nonResourceAttributes":{}}}"#,
            422,
            "must be empty",
        ),
        (
            own.clone(),
            r#"{"spec":{"resourceAttributes":{"fieldSelector":{"rawSelector":"a=b","requirements":[{"key":"a"}]}}}}"#,
            422,
            "spec.resourceAttributes.fieldSelector.rawSelector",
        ),
        (
            own.clone(),
            r#"{"spec":{"resourceAttributes":{"labelSelector":{}}}}"#,
            422,
            "labelSelector.requirements",
        ),
        (own, r#"{"spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}"#, 201, "\"allowed\":true"),
        (
            format!("{access}/namespaces/default/localsubjectaccessreviews"),
            r#"{"spec":{"user":"x","resourceAttributes":{"namespace":"other"}}}"#,
            422,
            "must match metadata.namespace",
        ),
        (
            "/apis/authentication.k8s.io/v1/tokenreviews".to_owned(),
            r#"{"spec":{"token":"nobody's"}}"#,
            201,
            "invalid bearer token",
        ),
    ] {
        let got = post(&path, body).await;
        assert!(got.code == code && got.text.contains(words), "{path} {body}: {} {}", got.code, got.text);
    }
}
