//! One connection, plain or by TLS.

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
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let opening = async {
        let tcp = TcpStream::connect((host, port)).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                format!("dial tcp {address}: connect: connection refused")
            }
            _ => format!("dial tcp {address}: {e}"),
        })?;
        tcp.set_nodelay(true).map_err(|e| e.to_string())?;
        let Some(tls) = tls else { return Ok(Stream::Plain(tcp)) };
        let name = tls.server_name.clone().unwrap_or_else(|| host.to_owned());
        let name = ServerName::try_from(name).map_err(|e| e.to_string())?;
        let stream = TlsConnector::from(tls.config.clone()).connect(name, tcp).await;
        Ok(Stream::Tls(Box::new(stream.map_err(|e| format!("tls: {e}"))?)))
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, opening).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

/// A connection.
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
