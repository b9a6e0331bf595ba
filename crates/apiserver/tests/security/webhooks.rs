//! Webhooks of authentication and authorization.

use std::time::Duration;

use apiserver::Options;
use apiserver::options::{AuthorizationWebhookOptions, TokenWebhookOptions};
use base::TaskScope;
use http::Method;
use schema::Value;

use crate::fake::Fake;
use crate::server::{TestServer, authority, eventually};

#[tokio::test]
async fn tokens_are_asked_about_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_owned();
    let scope = TaskScope::new("webhook");
    let (ca, ca_file) = authority(&at, "hooks-ca");
    let hook = Fake::start(&scope, &ca, &at, "hook", |seen| {
        let review: Value = serde_json::from_str(&seen.body).unwrap();
        let status = match review.str_at("spec.token") {
            Some("good") => r#"{"authenticated":true,"user":{"username":"zoe","groups":["g"]}}"#,
            _ => r#"{"authenticated":false}"#,
        };
        (
            200,
            format!(r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{status}}}"#),
        )
    })
    .await;
    let webhook = TokenWebhookOptions {
        config_file: hook.kubeconfig(&at, &ca_file),
        cache_ttl: Duration::from_secs(600),
        version: "v1".to_owned(),
    };
    let server =
        TestServer::start(folder, Options { token_webhook: Some(webhook), ..Options::default() }).await;
    for _ in 0..3 {
        let found = server.who(&[("authorization", "Bearer good")], None).await.unwrap();
        assert_eq!(found.str_at("username"), Some("zoe"));
        assert_eq!(server.who(&[("authorization", "Bearer bad")], None).await, Err(401));
    }
    assert_eq!(hook.count(), 2, "answers are kept");
    assert_eq!(hook.seen.lock().unwrap()[0].headers["authorization"], "Bearer secret");
    scope.cancel();
}

fn review(seen: &crate::fake::Seen) -> (u16, String) {
    let review: Value = serde_json::from_str(&seen.body).unwrap();
    let resource = review.str_at("spec.resourceAttributes.resource").unwrap_or_default();
    let status = match resource {
        "configmaps" => r#"{"allowed":true,"reason":"maps are for all"}"#,
        "secrets" => r#"{"allowed":false,"denied":true,"reason":"never"}"#,
        _ => r#"{"allowed":false}"#,
    };
    (
        200,
        format!(
            r#"{{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","status":{status}}}"#
        ),
    )
}

#[tokio::test]
async fn a_webhook_authorizes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_owned();
    let scope = TaskScope::new("webhook");
    let (ca, ca_file) = authority(&at, "hooks-ca");
    let hook = Fake::start(&scope, &ca, &at, "hook", review).await;
    let webhook = AuthorizationWebhookOptions {
        config_file: hook.kubeconfig(&at, &ca_file),
        authorized_ttl: Duration::from_secs(600),
        unauthorized_ttl: Duration::from_secs(600),
        version: "v1".to_owned(),
    };
    let options = Options {
        authorization_mode: vec!["Webhook".to_owned(), "RBAC".to_owned()],
        authorization_webhook: Some(webhook),
        ..Options::default()
    };
    let server = TestServer::start(folder, options).await;
    let maps = "/api/v1/namespaces/default/configmaps?labelSelector=a%3Db";
    for _ in 0..2 {
        assert_eq!(server.as_token("joe", Method::GET, maps, "").await.code, 200);
    }
    let seen = hook.seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 1, "a yes is kept");
    let spec: Value = serde_json::from_str(&seen[0].body).unwrap();
    let selector = &spec["spec"]["resourceAttributes"]["labelSelector"]["requirements"];
    assert_eq!(selector.items()[0].str_at("key"), Some("a"));
    let secrets = server.as_token("joe", Method::GET, "/api/v1/namespaces/default/secrets", "").await;
    assert_eq!(secrets.code, 403);
    assert!(secrets.text.contains("never"), "{}", secrets.text);
    assert_eq!(server.as_token("joe", Method::GET, "/version", "").await.code, 200, "RBAC is asked as well");
    scope.cancel();
}

#[tokio::test]
async fn a_configuration_file_chooses_and_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_owned();
    let scope = TaskScope::new("webhook");
    let (ca, ca_file) = authority(&at, "hooks-ca");
    let hook = Fake::start(&scope, &ca, &at, "hook", review).await;
    let config = at.join("authorization.yaml");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n\
         - type: Webhook\n  name: maps\n  webhook:\n    timeout: 3s\n    subjectAccessReviewVersion: v1\n    \
         failurePolicy: Deny\n    connectionInfo: {{type: KubeConfigFile, kubeConfigFile: '{}'}}\n    \
         matchConditions: [{{expression: \"request.resourceAttributes.resource == 'configmaps'\"}}, \
         {{expression: \"has(request.resourceAttributes)\"}}]\n- type: RBAC\n  name: rbac\n",
        hook.kubeconfig(&at, &ca_file).display()
    );
    std::fs::write(&config, &text).unwrap();
    let options = Options { authorization_config: Some(config.clone()), ..Options::default() };
    let server = TestServer::start(folder, options).await;
    let get = async |path: &str| server.as_token("joe", Method::GET, path, "").await.code;
    assert_eq!(get("/api/v1/namespaces/default/configmaps").await, 200);
    assert_eq!(get("/api/v1/namespaces/default/secrets").await, 403);
    assert_eq!(hook.count(), 1, "nobody asks about secrets");
    let next = at.join("next.yaml");
    std::fs::write(
        &next,
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n\
         authorizers: [{type: AlwaysAllow, name: all}]\n",
    )
    .unwrap();
    std::fs::rename(&next, &config).unwrap();
    eventually(|| async { (get("/api/v1/namespaces/default/secrets").await == 200).then_some(()) }).await;
    scope.cancel();
}
