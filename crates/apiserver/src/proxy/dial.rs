//! One connection to where a request goes.

use std::sync::Arc;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::location::{Location, Scheme};
use crate::core::Core;
use crate::http::Body;
use crate::outbound::{TlsClient, connect};
use crate::status::{ApiError, ApiResult};

/// Connects, and gives what sends one request.
pub async fn dial(core: &Arc<Core>, location: &Location) -> ApiResult<http1::SendRequest<Body>> {
    let unreachable = |why: String| ApiError::unavailable(format!("error trying to reach service: {why}"));
    let config = match location.scheme {
        Scheme::Http => None,
        Scheme::Https => Some(core.kubelet.anyone.clone()),
        Scheme::Kubelet => Some(core.kubelet.kubelet.clone()),
    };
    let tls = config.map(|config| TlsClient { config, server_name: None });
    open(core, &location.host, location.port, tls.as_ref()).await.map_err(unreachable)
}

/// Connects, and gives what sends one request. The error is in Go's words.
pub(crate) async fn open(
    core: &Arc<Core>,
    host: &str,
    port: u16,
    tls: Option<&TlsClient>,
) -> Result<http1::SendRequest<Body>, String> {
    let stream = connect(host, port, tls).await?;
    let http1 = http1::Builder::new().preserve_header_case(true).handshake(TokioIo::new(stream));
    let (sender, connection) = http1.await.map_err(|e| e.to_string())?;
    core.scope.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a server that requests are passed on to");
        }
    });
    Ok(sender)
}
