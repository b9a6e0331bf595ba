//! Tokens of an OpenID Connect issuer: another API server issues them, and its keys are published elsewhere.

use std::sync::{Arc, Mutex};

use apiserver::Options;
use apiserver::options::OidcOptions;
use base::TaskScope;
use http::Method;

use crate::fake::Fake;
use crate::server::{TestServer, authority, eventually};

/// An issuer's documents, a server that signs as that issuer, and a token of it for the audience `me`.
struct Issuer {
    url: String,
    authority: std::path::PathBuf,
    token: String,
    _signing: TestServer,
    scope: TaskScope,
}

async fn issuer(folder: &std::path::Path) -> Issuer {
    let scope = TaskScope::new("issuer");
    let (ca, authority) = authority(folder, "issuer-ca");
    let keys = Arc::new(Mutex::new(String::new()));
    let (served, own) = (keys.clone(), Arc::new(Mutex::new(String::new())));
    let url_of = own.clone();
    let fake = Fake::start(&scope, &ca, folder, "issuer", move |seen| {
        let url = url_of.lock().unwrap().clone();
        match seen.path.as_str() {
            "/.well-known/openid-configuration" => {
                (200, format!(r#"{{"issuer":"{url}","jwks_uri":"{url}/keys"}}"#))
            }
            "/keys" => (200, served.lock().unwrap().clone()),
            _ => (404, String::new()),
        }
    })
    .await;
    let url = format!("https://localhost:{}", fake.address.port());
    own.lock().unwrap().clone_from(&url);
    let home = tempfile::tempdir().unwrap();
    let (private, public) = (home.path().join("sa.key"), home.path().join("sa.pub"));
    pki::write_service_account_keys(&private, &public).unwrap();
    let options = Options {
        service_account_issuer: vec![url.clone()],
        service_account_key_file: vec![public],
        service_account_signing_key_file: Some(private),
        ..Options::default()
    };
    let signing = TestServer::start(home, options).await;
    *keys.lock().unwrap() = signing.as_token("tok", Method::GET, "/openid/v1/jwks", "").await.text;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let made = signing.as_token("tok", Method::POST, accounts, r#"{"metadata":{"name":"ann"}}"#).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let asked =
        r#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":["me"]}}"#;
    let answer = signing.as_token("tok", Method::POST, &format!("{accounts}/ann/token"), asked).await;
    let token = answer.json().str_at("status.token").unwrap().to_owned();
    Issuer { url, authority, token, _signing: signing, scope }
}

#[tokio::test]
async fn tokens_of_the_flags_issuer_are_believed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_owned();
    let issuer = issuer(&at).await;
    let flags = |audience: &str| OidcOptions {
        issuer_url: issuer.url.clone(),
        client_id: audience.to_owned(),
        ca_file: Some(issuer.authority.clone()),
        username_claim: "sub".to_owned(),
        username_prefix: None,
        groups_claim: "aud".to_owned(),
        groups_prefix: "oidc:".to_owned(),
        required_claims: Vec::new(),
        signing_algs: vec!["ES256".to_owned()],
    };
    let bearer = format!("Bearer {}", issuer.token);
    let token = [("authorization", bearer.as_str())];
    let options = Options { oidc: Some(flags("me")), ..Options::default() };
    let server = TestServer::start(folder, options).await;
    let found = server.who(&token, None).await.unwrap();
    let name = format!("{}#system:serviceaccount:default:ann", issuer.url);
    assert_eq!(found.str_at("username"), Some(name.as_str()));
    assert_eq!(found.items_at("groups")[0].as_str(), Some("oidc:me"));
    let (head, tail) = issuer.token.split_at(issuer.token.len() - 8);
    let forged = format!("Bearer {head}AAAA{}", &tail[4..]);
    assert_eq!(server.who(&[("authorization", &forged)], None).await, Err(401));
    let options = Options { oidc: Some(flags("you")), ..Options::default() };
    let other = TestServer::start(tempfile::tempdir().unwrap(), options).await;
    assert_eq!(other.who(&token, None).await, Err(401), "a token for somebody else");
    issuer.scope.cancel();
}

#[tokio::test]
async fn a_structured_configuration_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().to_owned();
    let issuer = issuer(&at).await;
    let pem = std::fs::read_to_string(&issuer.authority).unwrap().replace('\n', "\n        ");
    let config = |name: &str| {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    \
             url: {}\n    audiences: [me]\n    certificateAuthority: |\n        {pem}\n  claimMappings:\n    \
             username: {{expression: '\"{name}\"'}}\n    extra:\n    - {{key: example.com/ns, \
             valueExpression: 'claims[\"kubernetes.io\"].namespace'}}\n",
            issuer.url
        )
    };
    let path = at.join("authentication.yaml");
    std::fs::write(&path, config("first")).unwrap();
    let options = Options { authentication_config: Some(path.clone()), ..Options::default() };
    let server = TestServer::start(folder, options).await;
    let bearer = format!("Bearer {}", issuer.token);
    let token = [("authorization", bearer.as_str())];
    let found = server.who(&token, None).await.unwrap();
    assert_eq!(found.str_at("username"), Some("first"));
    assert_eq!(found["extra"]["example.com/ns"].items()[0].as_str(), Some("default"));
    let next = at.join("next.yaml");
    std::fs::write(&next, config("second")).unwrap();
    std::fs::rename(&next, &path).unwrap();
    eventually(|| async {
        (server.who(&token, None).await.ok()?.str_at("username") == Some("second")).then_some(())
    })
    .await;
    issuer.scope.cancel();
}
