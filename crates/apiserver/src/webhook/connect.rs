//! One TLS connection to a webhook.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::resolver::ServiceResolver;
use super::target::ServiceTarget;
use super::trust;

/// Time for connecting and the TLS handshake (upstream's dial timeout).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no connection, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(pub String);

/// Connects to the host of a URL, or to what stands behind a service.
#[derive(Clone)]
pub struct Connector {
    /// The service that the URL's host stands for.
    pub service: Option<ServiceTarget>,
    /// Finds its address.
    pub resolver: Arc<dyn ServiceResolver>,
    /// Whom to trust.
    pub tls: Arc<ClientConfig>,
}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<Stream, ConnectError> {
        let named = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let (host, port) = match &self.service {
            Some(service) => self
                .resolver
                .resolve(&service.namespace, &service.name, service.port)
                .map_err(ConnectError)?,
            None => (named.clone(), uri.port_u16().unwrap_or(443)),
        };
        // The certificate is for the name in the URL; of a service that is without its port's number.
        let expected = match &self.service {
            Some(service) => format!("{}.{}.svc", service.name, service.namespace),
            None => named,
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, self.open(&host, port, &expected)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ConnectError(format!("dial tcp {}: i/o timeout", address(&host, port)))),
        }
    }

    async fn open(&self, host: &str, port: u16, expected: &str) -> Result<Stream, ConnectError> {
        let refused = |e: &io::Error| dial_words(host, port, e);
        let tcp = TcpStream::connect((host, port)).await.map_err(|e| refused(&e))?;
        tcp.set_nodelay(true).map_err(|e| refused(&e))?;
        let name = ServerName::try_from(expected.to_owned())
            .map_err(|_| ConnectError(format!("dial tcp: lookup {expected}: no such host")))?;
        let tls = TlsConnector::from(self.tls.clone()).connect(name, tcp).await;
        let tls =
            tls.map_err(|e| match e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(error) => ConnectError(trust::words(error, expected)),
                None if e.kind() == io::ErrorKind::UnexpectedEof => ConnectError("EOF".to_owned()),
                None => ConnectError(e.to_string()),
            })?;
        Ok(Stream(TokioIo::new(tls)))
    }
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn dial_words(host: &str, port: u16, error: &io::Error) -> ConnectError {
    let address = address(host, port);
    ConnectError(match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("dial tcp {address}: connect: connection refused"),
        io::ErrorKind::HostUnreachable => format!("dial tcp {address}: connect: no route to host"),
        io::ErrorKind::NetworkUnreachable => format!("dial tcp {address}: connect: network is unreachable"),
        io::ErrorKind::TimedOut => format!("dial tcp {address}: connect: connection timed out"),
        _ if host.parse::<std::net::IpAddr>().is_err() && error.raw_os_error().is_none() => {
            format!("dial tcp: lookup {host}: no such host")
        }
        _ => format!("dial tcp {address}: connect: {error}"),
    })
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A TLS stream that knows which HTTP it speaks.
pub struct Stream(TokioIo<TlsStream<TcpStream>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let (_, tls) = self.0.inner().get_ref();
        if tls.alpn_protocol() == Some(b"h2") { Connected::new().negotiated_h2() } else { Connected::new() }
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
