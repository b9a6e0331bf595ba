//! The listener: HTTP/1.1 and HTTP/2 over TLS, with limits and a graceful end.

use std::sync::Arc;
use std::time::Duration;

use base::TaskScope;
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::coalesce::Coalesced;
use super::handle;
use crate::audit::PeerAddress;
use crate::authn::PeerCertificate;
use crate::core::Core;

/// Connections at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 16 * 1024;
/// Streams at once on one HTTP/2 connection (upstream `--http2-max-streams-per-connection`).
const MAX_STREAMS: u32 = 1000;
/// Time for a TLS handshake, and for the head of an HTTP/1 request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(32);
/// An idle HTTP/2 connection is probed this often, and closed when it does not answer for as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Largest head of a request, in bytes (Go's `DefaultMaxHeaderBytes`).
const MAX_HEADER_BYTES: usize = 1024 * 1024;
/// How long requests may go on once the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// After the system had no file descriptors left, the pause before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until the scope is cancelled, and as long as `--shutdown-delay-duration` says after that; then lets running
/// requests finish for a while.
pub(crate) async fn serve(
    core: Arc<Core>,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    scope: TaskScope,
) -> Result<(), crate::Error> {
    let acceptor = tls.map(TlsAcceptor::from);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let token = scope.token().clone();
    let delay = Duration::from_secs(core.options.shutdown_delay_s);
    // Load balancers are told first, and may send requests until they have noticed.
    let stopping = async {
        token.cancelled().await;
        core.health.set_stopping();
        tokio::time::sleep(delay).await;
    };
    tokio::pin!(stopping);
    loop {
        let accepted = tokio::select! {
            () = &mut stopping => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = accepted;
        let connection = connection(core.clone(), stream, acceptor.clone(), graceful.watcher());
        scope.spawn_graceful(async move {
            connection.await;
            drop(place);
        });
    }
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    let place = places.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(core: Arc<Core>, stream: TcpStream, acceptor: Option<TlsAcceptor>, graceful: Watcher) {
    let _ = stream.set_nodelay(true);
    let Ok(address) = stream.peer_addr().map(PeerAddress) else { return };
    match acceptor {
        None => http(core, stream, None, address, graceful).await,
        Some(acceptor) => match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(tls)) => {
                let chain = tls.get_ref().1.peer_certificates();
                let peer = chain.filter(|chain| !chain.is_empty()).map(|chain| PeerCertificate {
                    leaf: Arc::new(chain[0].clone().into_owned()),
                    verdict: Arc::new(core.client_authorities.judge(chain)),
                });
                match tls.get_ref().1.alpn_protocol() {
                    Some(b"h2") => http(core, Coalesced::new(tls), peer, address, graceful).await,
                    _ => http(core, tls, peer, address, graceful).await,
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        },
    }
}

async fn http<S>(
    core: Arc<Core>,
    stream: S,
    peer: Option<PeerCertificate>,
    address: PeerAddress,
    graceful: Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        let core = core.clone();
        request.extensions_mut().insert(address);
        // Nobody but this process may say who is calling.
        request.extensions_mut().remove::<base::UserInfo>();
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        async move {
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            Ok::<_, std::convert::Infallible>(handle(core, request).await)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .adaptive_window(true)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .max_concurrent_streams(MAX_STREAMS);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
    if let Err(error) = graceful.watch(connection).await {
        tracing::debug!(%error, "connection");
    }
}
