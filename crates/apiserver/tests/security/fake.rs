//! Another HTTPS server: a webhook, or an aggregated API server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::TaskScope;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pki::{Authority, CertificateRequest, KeyPairFiles, ServerTls, Usage};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A request that it got.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

/// A server that answers by a function and remembers what it was asked.
pub struct Fake {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// Starts one with a certificate of `authority` for `name`.
    pub async fn start(
        scope: &TaskScope,
        authority: &Authority,
        folder: &Path,
        name: &str,
        answer: impl Fn(&Seen) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let files = KeyPairFiles {
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
        };
        let request = CertificateRequest {
            common_name: name.to_owned(),
            organizations: Vec::new(),
            dns_names: vec![name.to_owned(), "localhost".to_owned()],
            addresses: vec![Ipv4Addr::LOCALHOST.into()],
            usage: Usage::Server,
            validity: Duration::from_secs(3600),
        };
        authority.issue_to(&request, &files.certificate, &files.key).unwrap();
        let tls = pki::server_config(&ServerTls {
            identity: files,
            client_authorities: Vec::new(),
            client_required: false,
            alpn: Vec::new(),
        });
        let acceptor = TlsAcceptor::from(tls.unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer, own) = (seen.clone(), Arc::new(answer), scope.clone());
        scope.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, kept, answer) = (acceptor.clone(), kept.clone(), answer.clone());
                own.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                        let (kept, answer) = (kept.clone(), answer.clone());
                        async move {
                            let (parts, body) = request.into_parts();
                            let body = body.collect().await?.to_bytes();
                            let seen = Seen {
                                path: parts.uri.path_and_query().unwrap().to_string(),
                                headers: parts.headers,
                                body: String::from_utf8_lossy(&body).into_owned(),
                            };
                            let (code, text) = answer(&seen);
                            kept.lock().unwrap().push(seen);
                            let response = Response::builder().status(code);
                            let response = response.header("content-type", "application/json");
                            Ok::<_, hyper::Error>(response.body(Full::new(Bytes::from(text))).unwrap())
                        }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, seen }
    }

    /// A kubeconfig file that names it.
    pub fn kubeconfig(&self, folder: &Path, authority: &Path) -> std::path::PathBuf {
        let path = folder.join(format!("webhook-{}.yaml", self.address.port()));
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
             clusters: [{{name: it, cluster: {{server: 'https://localhost:{}/hook', certificate-authority: '{}'}}}}]\n\
             users: [{{name: me, user: {{token: secret}}}}]\n\
             contexts: [{{name: it, context: {{cluster: it, user: me}}}}]\n",
            self.address.port(),
            authority.display()
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// How many requests it got.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}
