//! An API server on a free port, and a client for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use apiserver::{Options, Server};
use base::TaskScope;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pki::{Authority, CertificateRequest, KeyPairFiles, Usage};
use rustls::pki_types::ServerName;
use schema::Value;
use store::Store;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// A server that ends with this value.
pub struct TestServer {
    pub folder: TempDir,
    pub address: SocketAddr,
    scope: TaskScope,
}

/// An answer.
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

/// A name for a client, by an authority.
pub fn identity(authority: &Authority, folder: &Path, name: &str, groups: &[&str]) -> KeyPairFiles {
    let files = KeyPairFiles {
        certificate: folder.join(format!("{name}.crt")),
        key: folder.join(format!("{name}.key")),
    };
    let request = CertificateRequest {
        common_name: name.to_owned(),
        organizations: groups.iter().map(|g| (*g).to_owned()).collect(),
        dns_names: Vec::new(),
        addresses: Vec::new(),
        usage: Usage::Client,
        validity: Duration::from_secs(3600),
    };
    authority.issue_to(&request, &files.certificate, &files.key).unwrap();
    files
}

/// An authority with its certificate in `folder`.
pub fn authority(folder: &Path, name: &str) -> (Authority, PathBuf) {
    let (authority, _) = Authority::generate(name).unwrap();
    let path = folder.join(format!("{name}.crt"));
    std::fs::write(&path, authority.certificate_pem()).unwrap();
    (authority, path)
}

impl TestServer {
    /// Starts one; token `tok` is cluster administrator, `joe` an ordinary user.
    pub async fn start(folder: TempDir, options: Options) -> Self {
        let store = Arc::new(store::Embedded::in_memory(base::system_clock()).unwrap());
        Self::start_on(folder, options, store).await
    }

    /// Starts one over a store.
    pub async fn start_on(folder: TempDir, options: Options, store: Arc<dyn Store>) -> Self {
        Self::start_at(folder, options, store, base::system_clock()).await
    }

    /// Starts one with a clock.
    pub async fn start_at(
        folder: TempDir,
        options: Options,
        store: Arc<dyn Store>,
        clock: base::SharedClock,
    ) -> Self {
        let tokens = folder.path().join("tokens.csv");
        std::fs::write(&tokens, "tok,admin,1,\"system:masters\"\njoe,joe,2,dev\n").unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = Options {
            bind_address: Ipv4Addr::LOCALHOST.into(),
            secure_port: address.port(),
            cert_dir: folder.path().join("serving"),
            token_auth_file: Some(tokens),
            ..options
        };
        let scope = TaskScope::new("test");
        let server = Server::new(options, store, clock, &scope).await.unwrap();
        let tls = server.tls().unwrap();
        scope.spawn(async move { server.serve(listener, Some(tls)).await.unwrap() });
        Self { folder, address, scope }
    }

    /// A TLS connection, as `identity` if there is one.
    pub async fn connect(
        &self,
        identity: Option<KeyPairFiles>,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let roots = self.folder.path().join("serving/apiserver.crt");
        let config = pki::client_config(&[roots], identity, Vec::new()).unwrap();
        let tcp = TcpStream::connect(self.address).await?;
        TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), tcp).await
    }

    /// One request on a connection of its own.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
        identity: Option<KeyPairFiles>,
    ) -> Answer {
        let stream = self.connect(identity).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        self.scope.spawn(async move { drop(connection.await) });
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    /// A request as the holder of a token.
    pub async fn as_token(&self, token: &str, method: Method, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.ask(method, path, &[("authorization", &bearer)], body, None).await
    }

    /// The user that a SelfSubjectReview says.
    pub async fn who(&self, headers: &[(&str, &str)], identity: Option<KeyPairFiles>) -> Result<Value, u16> {
        let review = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let answer = self.ask(Method::POST, path, headers, review, identity).await;
        if answer.code == 201 { Ok(answer.json()["status"]["userInfo"].clone()) } else { Err(answer.code) }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

/// Asks until the answer is as wanted; panics after a long while.
pub async fn eventually<T, F, Fut>(mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    for _ in 0..600 {
        if let Some(found) = ask().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to be");
}
