//! A real HTTPS server on loopback for tests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::TaskScope;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use schema::Value;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Answers a body with a status and a body; `path` and `http2` say how it came.
pub type Handler = Arc<dyn Fn(&Asked) -> (u16, Value) + Send + Sync>;

/// One request as the server saw it.
pub struct Asked {
    /// Path and query.
    pub path: String,
    /// It came by HTTP/2.
    pub http2: bool,
    /// The body.
    pub body: Value,
}

/// A running server.
pub struct WebhookServer {
    /// Where.
    pub address: SocketAddr,
    /// PEM, for `caBundle`.
    pub ca: String,
    scope: TaskScope,
}

impl Drop for WebhookServer {
    fn drop(&mut self) {
        self.scope.cancel();
    }
}

impl WebhookServer {
    /// Serves `handler` with a certificate for `localhost`, `127.0.0.1` and `hook.ns.svc`. `alpn`: protocols offered.
    pub async fn start(alpn: &[&str], handler: Handler) -> Self {
        let (authority, _) = pki::Authority::generate("test").unwrap();
        let request = pki::CertificateRequest {
            common_name: "hook".to_owned(),
            organizations: Vec::new(),
            dns_names: vec!["localhost".to_owned(), "hook.ns.svc".to_owned()],
            addresses: vec![[127, 0, 0, 1].into()],
            usage: pki::Usage::Server,
            validity: Duration::from_secs(3600),
        };
        let issued = authority.issue(&request).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scope = TaskScope::new("webhook-server");
        let connections = scope.clone();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        scope.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, handler) = (acceptor.clone(), handler.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request| answer(handler.clone(), request));
                    let server = Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, ca: authority.certificate_pem().to_owned(), scope }
    }

    /// `clientConfig` with a URL.
    pub fn client_config(&self, path: &str) -> Value {
        use base64::Engine;
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca);
        schema::value!({"url": (format!("https://{}{path}", self.address)), "caBundle": ca})
    }
}

async fn answer(handler: Handler, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let http2 = request.version() == http::Version::HTTP_2;
    let bytes = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    let asked = Asked { path, http2, body };
    let (code, body) = tokio::task::block_in_place(|| handler(&asked));
    let mut response = Response::new(Full::from(serde_json::to_vec(&body).unwrap()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    Ok(response)
}
