//! One TLS connection to a webhook.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;

use super::resolver::ServiceResolver;
use super::target::ServiceTarget;
use crate::outbound::{self, TlsClient};

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
        let tls = TlsClient { config: self.tls.clone(), server_name: Some(expected) };
        let stream = outbound::connect(&host, port, Some(&tls)).await.map_err(ConnectError)?;
        Ok(Stream(TokioIo::new(stream)))
    }
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
pub struct Stream(TokioIo<outbound::Stream>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        if self.0.inner().is_http2() { Connected::new().negotiated_h2() } else { Connected::new() }
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
