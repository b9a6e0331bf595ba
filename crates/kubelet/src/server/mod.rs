//! The node's HTTPS API (port 10250): logs, streams into containers, pods, statistics, health.

mod access;
mod answer;
mod containers;
mod logs;
mod metrics;
mod pods;
mod route;
mod stats;
mod streams;
mod tunnel;

use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::error::Error;
use crate::pod::Registry;
use crate::shared::Shared;
use access::{Access, Peer};

/// How long a client may take for the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at a time.
const MAX_CONNECTIONS: usize = 1000;

/// A socket that listens, and how it greets.
pub struct Listener {
    socket: TcpListener,
    tls: TlsAcceptor,
}

/// Listens as configured; `None` without a certificate.
pub async fn listen(config: &Config) -> Result<Option<Listener>, Error> {
    let Some(identity) = config.serving.clone() else { return Ok(None) };
    let tls = pki::server_config(&pki::ServerTls {
        identity,
        client_authorities: config.client_ca_files.clone(),
        client_required: false,
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    })?;
    let address = config.listen;
    let socket = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
    Ok(Some(Listener { socket, tls: TlsAcceptor::from(tls) }))
}

/// What every request is answered with.
pub struct Server {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    access: Access,
}

/// Serves for ever.
pub async fn serve(listener: Listener, shared: Arc<Shared>, registry: Arc<Registry>) {
    let access = Access::new(shared.client.clone(), shared.config.node_name.clone(), shared.clock.clone());
    let scope = shared.scope.child("kubelet-server");
    let server = Arc::new(Server { shared, registry, access });
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.socket.accept().await {
            Ok((tcp, _)) => {
                let (server, tls) = (server.clone(), listener.tls.clone());
                scope.spawn(async move {
                    serve_connection(server, tls, tcp).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(server: Arc<Server>, tls: TlsAcceptor, tcp: TcpStream) {
    let _ = tcp.set_nodelay(true);
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(tcp)).await;
    let Ok(Ok(stream)) = handshake else { return };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|c| c.first().cloned());
    let peer = Arc::new(Peer { identity: certificate.as_ref().and_then(|c| pki::peer_identity(c)) });
    let service = service_fn(move |request| {
        let (server, peer) = (server.clone(), peer.clone());
        async move { Ok::<_, std::convert::Infallible>(route::answer(server, peer, request).await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "connection ended");
    }
}
