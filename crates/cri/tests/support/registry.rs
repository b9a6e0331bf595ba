//! A registry of our own that misbehaves on demand, and Debian's.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::image::{Image, MANIFEST, digest};

type Body = BoxBody<Bytes, std::io::Error>;

/// What the registry serves and what it saw.
#[derive(Default)]
pub struct Served {
    /// Media type and bytes by `repository:reference`.
    pub manifests: HashMap<String, (String, Vec<u8>)>,
    pub blobs: HashMap<String, Vec<u8>>,
    /// `user:password` that a token costs; `None` gives everything to everybody.
    pub credentials: Option<String>,
    /// Blobs that break off after so many bytes, once.
    pub break_once: HashMap<String, usize>,
    /// Blobs that are served with other content.
    pub corrupt: HashMap<String, Vec<u8>>,
    /// Method, path and `Range` of all requests.
    pub seen: Vec<String>,
}

/// A registry in this process; ends with it.
pub struct Registry {
    pub address: SocketAddr,
    pub served: Arc<Mutex<Served>>,
}

impl Registry {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// One that speaks HTTPS with a certificate of its own; the certificate in PEM.
    pub async fn start_tls() -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        (Self::start_with(Some(acceptor)).await, made.cert.pem())
    }

    async fn start_with(tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::new(Mutex::new(Served::default()));
        let state = served.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (state, tls) = (state.clone(), tls.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = answer(&request, &mut state.lock().unwrap(), address);
                        async move { Ok::<_, Infallible>(answer) }
                    });
                    let builder = hyper::server::conn::http1::Builder::new();
                    match tls {
                        None => drop(builder.serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                drop(builder.serve_connection(TokioIo::new(stream), service).await);
                            }
                        }
                    }
                });
            }
        });
        Self { address, served }
    }

    pub fn add(&self, repository: &str, tag: &str, image: &Image) {
        let mut served = self.served.lock().unwrap();
        served.blobs.extend(image.blobs.iter().cloned());
        for reference in [tag, &digest(&image.manifest)] {
            let value = (MANIFEST.to_owned(), image.manifest.clone());
            served.manifests.insert(format!("{repository}:{reference}"), value);
        }
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    pub fn seen(&self) -> Vec<String> {
        self.served.lock().unwrap().seen.clone()
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed();
    Response::builder().status(status).body(body).unwrap()
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    text(status, format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#))
}

fn answer(request: &Request<Incoming>, state: &mut Served, address: SocketAddr) -> Response<Body> {
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    state.seen.push(format!("{path} {query} {}", header("range")).trim().to_owned());
    let authorization = header("authorization");
    if path == "/token" {
        use base64::Engine as _;
        let expect = state.credentials.clone().unwrap_or_default();
        let expect = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(expect));
        if authorization != expect {
            return error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "incorrect username or password");
        }
        return text(StatusCode::OK, r#"{"token":"good"}"#);
    }
    if state.credentials.is_some() && authorization != "Bearer good" {
        let mut refused = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        let challenge = format!(r#"Bearer realm="http://{address}/token",service="test""#);
        refused.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
        return refused;
    }
    let parts: Vec<&str> = path.trim_start_matches("/v2/").rsplitn(3, '/').collect();
    match parts[..] {
        [reference, "manifests", repository] => {
            match state.manifests.get(&format!("{repository}:{reference}")) {
                Some((media, bytes)) => {
                    let mut found = text(StatusCode::OK, bytes.clone());
                    found.headers_mut().insert("content-type", media.parse().unwrap());
                    found
                }
                None => error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
            }
        }
        [wanted, "blobs", _] => blob(wanted, header("range"), state),
        _ => error(StatusCode::NOT_FOUND, "UNSUPPORTED", path),
    }
}

fn blob(wanted: &str, range: &str, state: &mut Served) -> Response<Body> {
    if let Some(other) = state.corrupt.get(wanted) {
        return text(StatusCode::OK, other.clone());
    }
    let Some(bytes) = state.blobs.get(wanted).cloned() else {
        return error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown");
    };
    let start: usize =
        range.strip_prefix("bytes=").and_then(|r| r.trim_end_matches('-').parse().ok()).unwrap_or(0);
    let mut answer = match state.break_once.remove(wanted) {
        Some(after) => {
            let pieces = [
                Ok(Frame::data(Bytes::copy_from_slice(&bytes[..after]))),
                Err(std::io::Error::other("broken on purpose")),
            ];
            // The break must not overtake the data.
            let stream = futures::stream::iter(pieces).then(|piece| async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                piece
            });
            let mut answer = text(StatusCode::OK, "");
            *answer.body_mut() = BodyExt::boxed(StreamBody::new(Box::pin(stream) as SyncStream));
            answer
        }
        None => text(StatusCode::OK, bytes[start..].to_vec()),
    };
    if start > 0 {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
        answer.headers_mut().insert("content-range", range.parse().unwrap());
    }
    answer
}

type SyncStream =
    std::pin::Pin<Box<dyn futures::Stream<Item = Result<Frame<Bytes>, std::io::Error>> + Send + Sync>>;

/// Debian's registry, stopped when dropped.
pub struct DockerRegistry {
    child: Child,
    pub address: SocketAddr,
}

impl DockerRegistry {
    /// Starts it with its files in `dir`; `None`, with a note, if it is not installed.
    pub async fn start(dir: &std::path::Path) -> Option<Self> {
        let address = super::free_address();
        let config = dir.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\n",
            dir.join("registry").display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            println!("no docker-registry: pulling from a real one is not tested");
            return None;
        };
        let registry = Self { child, address };
        for _ in 0..500 {
            if TcpStream::connect(address).await.is_ok() {
                return Some(registry);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("docker-registry does not listen");
    }

    pub async fn push(&self, repository: &str, tag: &str, image: &Image) {
        for (digest, blob) in &image.blobs {
            let started = self.call("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"").await;
            let location =
                started.lines().find_map(|l| l.strip_prefix("Location: ")).unwrap().trim().to_owned();
            let path = location.split_once(&self.address.to_string()).map_or(location.as_str(), |(_, p)| p);
            let kind = "application/octet-stream";
            let done = self.call("PUT", &format!("{path}&digest={digest}"), kind, blob).await;
            assert!(done.starts_with("HTTP/1.1 201"), "{done}");
        }
        let path = format!("/v2/{repository}/manifests/{tag}");
        let done = self.call("PUT", &path, MANIFEST, &image.manifest).await;
        assert!(done.starts_with("HTTP/1.1 201"), "{done}");
    }

    async fn call(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
