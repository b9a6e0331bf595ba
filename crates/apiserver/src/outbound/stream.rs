//! One connection, plain or by TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::words;

/// Time for connecting and the TLS handshake (upstream's dial timeout).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How TLS is spoken.
#[derive(Clone)]
pub struct TlsClient {
    /// Whom to believe and what to present.
    pub config: Arc<ClientConfig>,
    /// The name that the certificate must have, if not the host's.
    pub server_name: Option<String>,
}

/// Connects; the error is in Go's words.
pub async fn connect(host: &str, port: u16, tls: Option<&TlsClient>) -> Result<Stream, String> {
    match tokio::time::timeout(CONNECT_TIMEOUT, open(host, port, tls)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("dial tcp {}: i/o timeout", words::address(host, port))),
    }
}

async fn open(host: &str, port: u16, tls: Option<&TlsClient>) -> Result<Stream, String> {
    let dialed = |e: io::Error| words::dial(host, port, &e);
    let tcp = TcpStream::connect((host, port)).await.map_err(dialed)?;
    tcp.set_nodelay(true).map_err(dialed)?;
    let Some(tls) = tls else { return Ok(Stream::Plain(tcp)) };
    let expected = tls.server_name.as_deref().unwrap_or(host);
    let name = ServerName::try_from(expected.to_owned())
        .map_err(|_| format!("dial tcp: lookup {expected}: no such host"))?;
    let stream = TlsConnector::from(tls.config.clone()).connect(name, tcp).await;
    Ok(Stream::Tls(Box::new(stream.map_err(|e| words::handshake(expected, &e))?)))
}

/// A connection.
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether the other side chose HTTP/2 in the handshake.
    pub fn is_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
