//! Certificates, front proxies and structured authentication.

use apiserver::Options;
use http::Method;

use crate::server::{TestServer, authority, identity};

#[tokio::test]
async fn a_certificate_counts_for_the_authority_that_signed_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_owned();
    let (users, users_file) = authority(&at, "users-ca");
    let (proxies, proxies_file) = authority(&at, "proxies-ca");
    let (strangers, _) = authority(&at, "strangers-ca");
    let ann = identity(&users, &at, "ann", &["dev"]);
    let proxy = identity(&proxies, &at, "front-proxy", &["system:masters"]);
    let other = identity(&proxies, &at, "other-proxy", &[]);
    let stranger = identity(&strangers, &at, "stranger", &["system:masters"]);
    let server = TestServer::start(
        folder,
        Options {
            client_ca_file: Some(users_file),
            requestheader_client_ca_file: Some(proxies_file),
            requestheader_allowed_names: vec!["front-proxy".to_owned()],
            requestheader_username_headers: vec!["X-Remote-User".to_owned()],
            requestheader_group_headers: vec!["X-Remote-Group".to_owned()],
            requestheader_extra_headers_prefix: vec!["X-Remote-Extra-".to_owned()],
            ..Options::default()
        },
    )
    .await;
    let headers = [("x-remote-user", "bob"), ("x-remote-group", "ops"), ("x-remote-extra-acme.com%2fx", "1")];

    let found = server.who(&[], Some(ann.clone())).await.unwrap();
    assert_eq!(found.str_at("username"), Some("ann"));
    let found = server.who(&headers, Some(ann)).await.unwrap();
    assert_eq!(found.str_at("username"), Some("ann"), "a user's certificate is no front proxy's");
    let found = server.who(&headers, Some(proxy.clone())).await.unwrap();
    assert_eq!(found.str_at("username"), Some("bob"));
    let groups: Vec<&str> = found.items_at("groups").iter().filter_map(|g| g.as_str()).collect();
    assert_eq!(groups, ["ops", "system:authenticated"]);
    assert_eq!(found["extra"]["acme.com/x"].items()[0].as_str(), Some("1"));

    assert_eq!(server.who(&[], Some(proxy)).await, Err(401), "a front proxy alone is nobody");
    assert_eq!(server.who(&headers, Some(other)).await, Err(401), "not an allowed name");
    assert_eq!(server.who(&[], Some(stranger.clone())).await, Err(401), "an unknown authority");
    let token = [("authorization", "Bearer joe")];
    let found = server.who(&token, Some(stranger)).await.unwrap();
    assert_eq!(found.str_at("username"), Some("joe"), "other credentials count all the same");

    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let map = server.as_token("tok", Method::GET, path, "").await.json();
    assert_eq!(map["data"]["requestheader-allowed-names"].as_str(), Some("[\"front-proxy\"]"));
    assert!(map["data"]["client-ca-file"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
}

#[tokio::test]
async fn nobody_is_anonymous_but_where_it_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("authentication.yaml");
    std::fs::write(
        &config,
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n\
         anonymous: {enabled: true, conditions: [{path: /livez}]}\n",
    )
    .unwrap();
    let options = Options { authentication_config: Some(config), ..Options::default() };
    let server = TestServer::start(folder, options).await;
    assert_eq!(server.ask(Method::GET, "/livez", &[], "", None).await.code, 200);
    assert_eq!(server.ask(Method::GET, "/readyz", &[], "", None).await.code, 401);
    assert_eq!(server.as_token("wrong", Method::GET, "/livez", "").await.code, 401);
    assert_eq!(server.as_token("tok", Method::GET, "/readyz", "").await.code, 200);
}

#[tokio::test]
async fn impersonation_is_complete_and_asked_for() {
    let server = TestServer::start(tempfile::tempdir().unwrap(), Options::default()).await;
    let headers = |token: &'static str| {
        vec![
            ("authorization", token),
            ("impersonate-user", "eve"),
            ("impersonate-uid", "u-1"),
            ("impersonate-group", "a"),
            ("impersonate-extra-acme.com%2fteam", "t"),
        ]
    };
    let found = server.who(&headers("Bearer tok"), None).await.unwrap();
    assert_eq!((found.str_at("username"), found.str_at("uid")), (Some("eve"), Some("u-1")));
    assert_eq!(found["extra"]["acme.com/team"].items()[0].as_str(), Some("t"));
    assert_eq!(server.who(&headers("Bearer joe"), None).await, Err(403));
}
