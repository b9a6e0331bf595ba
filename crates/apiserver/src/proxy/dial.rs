//! One connection to where a request goes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::location::{Location, Scheme};
use crate::core::Core;
use crate::http::Body;
use crate::status::{ApiError, ApiResult};

/// Time for connecting and the TLS handshake (upstream's dial timeout).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects, and gives what sends one request.
pub async fn dial(core: &Arc<Core>, location: &Location) -> ApiResult<http1::SendRequest<Body>> {
    let unreachable = |why: String| ApiError::unavailable(format!("error trying to reach service: {why}"));
    let address = format!("{}:{}", location.host, location.port);
    let connecting = async {
        let tcp = TcpStream::connect((location.host.as_str(), location.port)).await?;
        tcp.set_nodelay(true)?;
        let config = match location.scheme {
            Scheme::Http => return Ok(Stream::Plain(tcp)),
            Scheme::Https => core.kubelet.anyone.clone(),
            Scheme::Kubelet => core.kubelet.kubelet.clone(),
        };
        let name = ServerName::try_from(location.host.clone()).map_err(std::io::Error::other)?;
        let tls = TlsConnector::from(config).connect(name, tcp).await?;
        Ok::<_, std::io::Error>(Stream::Tls(Box::new(tls)))
    };
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(format!("dial tcp {address}: {error}"))),
        Err(_) => return Err(unreachable(format!("dial tcp {address}: i/o timeout"))),
    };
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| unreachable(e.to_string()))?;
    core.scope.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a kubelet or pod");
        }
    });
    Ok(sender)
}

/// A response's body as ours.
pub fn body_of(body: hyper::body::Incoming) -> Body {
    body.map_err(Into::into).boxed_unsync()
}

enum Stream {
    Plain(TcpStream),
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
