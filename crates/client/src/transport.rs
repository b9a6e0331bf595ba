//! The two transports of a [`kube::Client`]: in process, and HTTP/2 or HTTP/1.1 over TLS.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base::UserInfo;
use bytes::Bytes;
use futures::TryFutureExt;
use http::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use pki::KeyPairFiles;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

use crate::Error;

/// Any error of a body or transport.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The request body that an in-process API server takes.
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// How long connecting and the TLS handshake may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An HTTP/2 connection is probed when silent for this long, and given up after as long again (client-go: 30 s, 15 s).
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(15);

/// A client whose requests go straight to `service`, as `user`.
///
/// No socket, no TLS, no encoding of HTTP; authorization and admission are the service's as for anyone. `component` is
/// what calls itself the user agent, and so the manager of the fields that it writes, e.g. `kube-scheduler`.
pub fn in_process<S, B>(service: S, user: UserInfo, component: &str) -> kube::Client
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    kube::Client::new(InProcess { service, user: Arc::new(user), agent: user_agent(component) }, "default")
}

/// `kube-scheduler/v1.36.2+corten-0.1.0 (linux/x86_64)`, as upstream's clients name themselves.
fn user_agent(component: &str) -> HeaderValue {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    HeaderValue::try_from(format!("{component}/{} ({os}/{arch})", base::GIT_VERSION))
        .unwrap_or(HeaderValue::from_static("corten"))
}

/// Marks each request with its user and hands it on.
#[derive(Clone)]
struct InProcess<S> {
    service: S,
    user: Arc<UserInfo>,
    agent: HeaderValue,
}

impl<S, B> Service<Request<Body>> for InProcess<S>
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut request = request.map(|body| body.map_err(|e| BoxError::from(e.to_string())).boxed_unsync());
        request.extensions_mut().insert(UserInfo::clone(&self.user));
        request.headers_mut().insert(USER_AGENT, self.agent.clone());
        let response = self.service.call(request);
        Box::pin(response.err_into())
    }
}

/// Where an API server is and who talks to it.
#[derive(Debug, Clone, Default)]
pub struct RemoteConfig {
    /// E.g. `https://10.0.0.1:6443`.
    pub server: String,
    /// Who asks, e.g. `kubelet`: the user agent, and the manager of the fields that it writes. Empty: `corten`.
    pub component: &'static str,
    /// PEM files of the authorities that sign the server's certificate.
    pub authorities: Vec<PathBuf>,
    /// Takes any server for the right one: for discovery, whose answer is verified by its content.
    pub unverified: bool,
    /// The client certificate.
    pub identity: Option<KeyPairFiles>,
    /// A file with a bearer token, read again for every request, since tokens rotate.
    pub token_file: Option<PathBuf>,
    /// A bearer token.
    pub token: Option<String>,
    /// Keeps files that are in memory only, which the paths above may name.
    pub inline: Vec<Arc<OwnedFd>>,
}

/// A client over the network. Nothing is connected before the first request.
pub fn remote(config: RemoteConfig) -> Result<kube::Client, Error> {
    let wrong = |reason: &str| Error::Address { address: config.server.clone(), reason: reason.to_owned() };
    let base: Uri = config.server.parse().map_err(|_| wrong("not a URL"))?;
    let scheme = base.scheme().cloned().ok_or_else(|| wrong("no scheme"))?;
    let authority = base.authority().cloned().ok_or_else(|| wrong("no host"))?;
    let tls = if scheme == Scheme::HTTPS {
        let alpn = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tls = match config.unverified {
            true => pki::unverified_client_config(alpn)?,
            false => pki::client_config(&config.authorities, config.identity.clone(), alpn)?,
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|_| wrong("not a host name"))?;
        Some((TlsConnector::from(tls), name))
    } else {
        None
    };
    let hyper: HyperClient<Connector, Body> = HyperClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .http2_adaptive_window(true)
        .build(Connector { tls });
    let agent = user_agent(if config.component.is_empty() { "corten" } else { config.component });
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let hyper = hyper.clone();
        request.headers_mut().insert(USER_AGENT, agent.clone());
        let prepared = authorize(&config, &mut request).and_then(|()| {
            *request.uri_mut() = absolute(request.uri(), &scheme, &authority)?;
            Ok(())
        });
        async move {
            prepared?;
            hyper.request(request).await.map_err(BoxError::from)
        }
    });
    Ok(kube::Client::new(service, "default"))
}

fn absolute(uri: &Uri, scheme: &Scheme, authority: &Authority) -> Result<Uri, BoxError> {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(scheme.clone());
    parts.authority = Some(authority.clone());
    Ok(Uri::from_parts(parts)?)
}

fn authorize(config: &RemoteConfig, request: &mut Request<Body>) -> Result<(), BoxError> {
    let token = match (&config.token_file, &config.token) {
        (Some(file), _) => std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?,
        (None, Some(token)) => token.clone(),
        (None, None) => return Ok(()),
    };
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(())
}

/// Connects by TCP, then TLS when the server has a name to verify.
#[derive(Clone)]
struct Connector {
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

type Io = TokioIo<Stream>;

impl Service<Uri> for Connector {
    type Response = Io;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Io, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move {
            let connect = async {
                let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
                let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
                let tcp = TcpStream::connect((host, port)).await?;
                tcp.set_nodelay(true)?;
                match tls {
                    Some((connector, name)) => {
                        Ok::<_, BoxError>(Stream::Tls(Box::new(connector.connect(name, tcp).await?)))
                    }
                    None => Ok(Stream::Plain(tcp)),
                }
            };
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| {
                format!("connect to {uri}: no answer within {} s", CONNECT_TIMEOUT.as_secs())
            })??;
            Ok(TokioIo::new(stream))
        })
    }
}

/// A connection to an API server.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Stream::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            _ => Connected::new(),
        }
    }
}

macro_rules! both {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Plain(plain) => {
                let $stream = Pin::new(plain);
                $call
            }
            Stream::Tls(tls) => {
                let $stream = Pin::new(tls.as_mut());
                $call
            }
        }
    };
}

impl tokio::io::AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        both!(self, s => s.poll_read(cx, buffer))
    }
}

impl tokio::io::AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        both!(self, s => s.poll_write(cx, data))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        both!(self, s => s.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        both!(self, s => s.poll_shutdown(cx))
    }
}
