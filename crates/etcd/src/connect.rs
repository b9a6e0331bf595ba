//! Channels to somebody's etcd.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(5);
/// A silent server is asked whether it is there this often, and given up after as long.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Bytes under way unread on one stream and on the connection.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Why no channel can be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is none of `http://host:port` and `https://host:port`.
    #[error("{0:?} is no http:// or https:// URL of a server")]
    Url(String),
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Tls(#[from] pki::Error),
}

/// A channel to `url`. It connects when it is first used, and again when the connection breaks.
///
/// # Errors
/// See [`ConnectError`].
pub fn connect(
    url: &str,
    authorities: &[PathBuf],
    identity: Option<pki::KeyPairFiles>,
) -> Result<Channel, ConnectError> {
    let wrong = || ConnectError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(2379);
    let tls = match uri.scheme_str() {
        Some("http") => None,
        Some("https") => Some(pki::client_config(authorities, identity, vec![b"h2".to_vec()])?),
        _ => return Err(wrong()),
    };
    let endpoint = Endpoint::from(uri)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .tcp_nodelay(true);
    let dial = tower_service_fn(move || dial(host.clone(), port, tls.clone()));
    Ok(endpoint.connect_with_connector_lazy(dial))
}

/// Both kinds of connections as one.
pub(crate) trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Io for T {}

/// Connects, with TLS if told how.
pub(crate) async fn dial(
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
) -> std::io::Result<TokioIo<Box<dyn Io>>> {
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let connected = async {
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = tls else { return Ok(TokioIo::new(Box::new(stream) as Box<dyn Io>)) };
        let name = ServerName::try_from(host.clone()).map_err(std::io::Error::other)?;
        let stream = TlsConnector::from(tls).connect(name, stream).await?;
        Ok(TokioIo::new(Box::new(stream) as Box<dyn Io>))
    };
    tokio::time::timeout(CONNECT, connected).await.map_err(late)?
}

/// A connector of a function; the URL is known already.
fn tower_service_fn<F, Fut>(dial: F) -> Dial<F>
where
    F: Fn() -> Fut,
{
    Dial(dial)
}

#[derive(Clone)]
struct Dial<F>(F);

impl<F, Fut> tower_service::Service<Uri> for Dial<F>
where
    F: Fn() -> Fut,
    Fut: Future<Output = std::io::Result<TokioIo<Box<dyn Io>>>> + Send + 'static,
{
    type Response = TokioIo<Box<dyn Io>>;
    type Error = std::io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin((self.0)())
    }
}
