//! Encryption at rest, seen from the store.

use std::sync::Arc;

use apiserver::{Options, Server};
use base::TaskScope;
use http::Method;
use store::Store;

use crate::server::TestServer;

const SECRET: &str = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"data":{"a":"aGVsbG8="}}"#;

fn config(provider: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets]\n  providers: [{provider}, {{identity: {{}}}}]\n"
    )
}

#[tokio::test]
async fn secrets_are_stored_encrypted_and_read_after_a_restart() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("encryption.yaml");
    let old = "{aescbc: {keys: [{name: one, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}}";
    std::fs::write(&path, config(old)).unwrap();
    let options = Options { encryption_provider_config: Some(path.clone()), ..Options::default() };
    let clock = base::system_clock();
    let store: Arc<dyn Store> = Arc::new(store::Embedded::in_memory(clock.clone()).unwrap());
    let own = "/api/v1/namespaces/default/secrets/s";
    let key = b"/registry/secrets/default/s";

    let first = TestServer::start_on(tempfile::tempdir().unwrap(), options.clone(), store.clone()).await;
    let made = first.as_token("tok", Method::POST, "/api/v1/namespaces/default/secrets", SECRET).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let sealed = store.get(key).unwrap().unwrap().value.clone();
    assert!(sealed.starts_with(b"k8s:enc:aescbc:v1:one:"), "{}", String::from_utf8_lossy(&sealed[..40]));
    let read = first.as_token("tok", Method::GET, own, "").await;
    assert_eq!(read.json()["data"]["a"].as_str(), Some("aGVsbG8="));
    let version = read.json().str_at("metadata.resourceVersion").unwrap().to_owned();
    let same = first.as_token("tok", Method::PUT, own, &read.text).await;
    assert_eq!(same.json().str_at("metadata.resourceVersion"), Some(version.as_str()), "nothing has changed");
    drop(first);

    // A store that has read its values from disk knows nothing but what is stored.
    let fresh: Arc<dyn Store> = Arc::new(store::Embedded::in_memory(clock).unwrap());
    let put = store::Put::new(std::str::from_utf8(key).unwrap(), sealed);
    fresh.create(put).await.unwrap().unwrap();
    let new = "{secretbox: {keys: [{name: two, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}}";
    std::fs::write(&path, config(&format!("{new}, {old}"))).unwrap();
    let second = TestServer::start_on(tempfile::tempdir().unwrap(), options.clone(), fresh.clone()).await;
    let read = second.as_token("tok", Method::GET, own, "").await;
    assert_eq!(read.json()["data"]["a"].as_str(), Some("aGVsbG8="), "{}", read.text);
    let changed = read.text.replace("aGVsbG8=", "d29ybGQ=");
    assert_eq!(second.as_token("tok", Method::PUT, own, &changed).await.code, 200);
    let sealed = fresh.get(key).unwrap().unwrap();
    assert!(sealed.value.starts_with(b"k8s:enc:secretbox:v1:two:"), "written with the first provider");
    let list = second.as_token("tok", Method::GET, "/api/v1/secrets", "").await.json();
    assert_eq!(list.items_at("items")[0]["data"]["a"].as_str(), Some("d29ybGQ="));

    std::fs::write(&path, config("{kms: {name: x, endpoint: 'unix:///x'}}")).unwrap();
    let scope = TaskScope::new("refused");
    let refused = Server::new(options, fresh, base::system_clock(), &scope).await.err().unwrap();
    assert!(refused.to_string().contains("KMSv1 is deprecated"), "{refused}");
}
