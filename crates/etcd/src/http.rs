//! Connections of clients: gRPC and a few plain HTTP answers on the same port, with or without TLS.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::TaskScope;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use proto::etcd::rpc::auth_server::{AuthServer, SERVICE_NAME as AUTH};
use proto::etcd::rpc::cluster_server::{ClusterServer, SERVICE_NAME as CLUSTER};
use proto::etcd::rpc::kv_server::{KvServer, SERVICE_NAME as KV};
use proto::etcd::rpc::lease_server::{LeaseServer, SERVICE_NAME as LEASE};
use proto::etcd::rpc::maintenance_server::{MaintenanceServer, SERVICE_NAME as MAINTENANCE};
use proto::etcd::rpc::watch_server::SERVICE_NAME as WATCH;
use rustls::ServerConfig;
use store::Alarm;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::Status;
use tonic::body::Body;
use tonic::server::Grpc;
use tower_service::Service;

use crate::auth::PeerName;
use crate::http_batch::Batched;
use crate::http_mend::Mended;
use crate::lean_codec::Lean;
use crate::server::{ETCD_VERSION, LeaseService, MaintenanceService, PutCall, RangeCall, Server, WatchCall};
use crate::{metrics, status};

/// Connections at once.
const MAX_CONNECTIONS: usize = 8192;
/// Requests under way on one connection (etcd `--max-concurrent-streams` has no limit by default).
const MAX_STREAMS: u32 = 100_000;
/// What a message may be larger than the largest request (etcd `grpcOverheadBytes`).
const MESSAGE_OVERHEAD: usize = 512 << 10;
/// How long a client may take over the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The window of one stream and of a connection, in bytes: what may be under way unread.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// A connection that is silent is asked whether somebody is there (`--grpc-keepalive-interval`, `-timeout`).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2 * 3600);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Where clients are served.
pub struct Listen {
    /// Bound already, so that the caller knows that it could be.
    pub listener: TcpListener,
    /// With TLS, and how.
    pub tls: Option<Arc<ServerConfig>>,
    /// Health and metrics alone (`--listen-metrics-urls`).
    pub metrics_only: bool,
}

/// Why an address is not served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Listen {
    /// Binds an address.
    ///
    /// # Errors
    /// [`ListenError::Bind`].
    pub async fn bind(address: &str, tls: Option<Arc<ServerConfig>>) -> Result<Self, ListenError> {
        let wrong = |source| ListenError::Bind { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).await.map_err(wrong)?;
        Ok(Self { listener, tls, metrics_only: false })
    }

    /// The address that was bound.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Serves until the scope is cancelled.
pub async fn serve(server: Arc<Server>, listen: Listen, scope: TaskScope) {
    let router = (!listen.metrics_only).then(|| Arc::new(Router::new(&server)));
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        while let Ok(slot) = slots.clone().acquire_owned().await {
            let stream = match listen.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, or a client that is gone: others are served on.
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            let one = Connection { server: server.clone(), router: router.clone(), peer: None };
            let tls = listen.tls.clone();
            scope.spawn(async move {
                one.serve(stream, tls).await;
                drop(slot);
            });
        }
    };
    _ = scope.token().run_until_cancelled(accepting).await;
}

/// A client's connection.
#[derive(Clone)]
struct Connection {
    server: Arc<Server>,
    router: Option<Arc<Router>>,
    peer: Option<PeerName>,
}

impl Connection {
    async fn serve(mut self, stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
        _ = stream.set_nodelay(true);
        let Some(tls) = tls else {
            return self.serve_io(TokioIo::new(Mended::new(Batched::new(stream)))).await;
        };
        let handshake = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream)).await;
        match handshake {
            Ok(Ok(stream)) => {
                let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                self.peer = certificate.and_then(pki::peer_identity).map(|(name, _)| PeerName(name.into()));
                self.serve_io(TokioIo::new(Mended::new(Batched::new(stream)))).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn serve_io<I>(self, io: I)
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + 'static + Send,
    {
        // What answers a request is large, and is moved several times before it runs.
        let service = hyper::service::service_fn(move |request| Box::pin(self.clone().answer(request)));
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        builder.http1().timer(TokioTimer::new());
        if let Err(error) = builder.serve_connection(io, service).await {
            tracing::debug!(%error, "a client's connection ended");
        }
    }

    async fn answer(self, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        match self.router {
            Some(router) if is_grpc => {
                if let Some(peer) = self.peer {
                    request.extensions_mut().insert(peer);
                }
                router.route(request).await
            }
            _ => Ok(plain(&self.server, request.method(), request.uri()).await),
        }
    }
}

/// The services by the first part of their methods' paths; the busiest calls without what is generated around them.
struct Router {
    server: Arc<Server>,
    /// Bytes of a message that comes in.
    limit: usize,
    kv: KvServer<Server>,
    lease: LeaseServer<LeaseService>,
    cluster: ClusterServer<Server>,
    maintenance: MaintenanceServer<MaintenanceService>,
    auth: AuthServer<Server>,
}

impl Router {
    fn new(server: &Arc<Server>) -> Self {
        let limit = server.options.max_request_bytes + MESSAGE_OVERHEAD;
        Self {
            server: server.clone(),
            limit,
            kv: KvServer::from_arc(server.clone())
                .max_decoding_message_size(limit)
                .max_encoding_message_size(i32::MAX as usize),
            lease: LeaseServer::new(LeaseService(server.clone())).max_decoding_message_size(limit),
            cluster: ClusterServer::from_arc(server.clone()).max_decoding_message_size(limit),
            maintenance: MaintenanceServer::new(MaintenanceService(server.clone()))
                .max_decoding_message_size(limit),
            auth: AuthServer::from_arc(server.clone()).max_decoding_message_size(limit),
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        match service {
            KV if request.uri().path().ends_with("/Range") => {
                let mut grpc = Grpc::new(Lean::default()).max_decoding_message_size(self.limit);
                grpc = grpc.max_encoding_message_size(i32::MAX as usize);
                Ok(grpc.unary(RangeCall(self.server.clone()), request).await)
            }
            KV if request.uri().path().ends_with("/Put") => {
                let mut grpc = Grpc::new(Lean::default()).max_decoding_message_size(self.limit);
                Ok(grpc.unary(PutCall(self.server.clone()), request).await)
            }
            WATCH if request.uri().path().ends_with("/Watch") => {
                let mut grpc = Grpc::new(Lean::default()).max_decoding_message_size(self.limit);
                grpc = grpc.max_encoding_message_size(i32::MAX as usize);
                Ok(grpc.streaming(WatchCall(self.server.clone()), request).await)
            }
            KV => self.kv.clone().call(request).await,
            LEASE => self.lease.clone().call(request).await,
            CLUSTER => self.cluster.clone().call(request).await,
            MAINTENANCE => self.maintenance.clone().call(request).await,
            AUTH => self.auth.clone().call(request).await,
            other => Ok(Status::unimplemented(format!("unknown service {other}")).into_http()),
        }
    }
}

fn text(code: StatusCode, kind: &'static str, content: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(content.into()).map_err(|never| match never {});
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

async fn plain(server: &Server, method: &Method, uri: &http::Uri) -> Response<Body> {
    if method != Method::GET && method != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n");
    }
    let query = uri.query().unwrap_or_default();
    let verbose = query.split('&').any(|part| part == "verbose" || part.starts_with("verbose="));
    match uri.path() {
        "/version" => {
            let version = format!("{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"3.6.0\"}}");
            text(StatusCode::OK, JSON, version)
        }
        "/metrics" => text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics::text(server)),
        "/health" => health(server, query).await,
        "/livez" => checks(&[("serializable_read", server.store.health())], verbose),
        "/readyz" => {
            let corrupt = server.cluster.alarms().iter().any(|(_, alarm)| *alarm == Alarm::Corrupt);
            let data = if corrupt { Err(store::Error::Invalid("the data is corrupt")) } else { Ok(()) };
            let read = linearizable(server).await;
            checks(
                &[
                    ("data_corruption", data),
                    ("serializable_read", server.store.health()),
                    ("linearizable_read", read),
                ],
                verbose,
            )
        }
        _ => text(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"),
    }
}

/// How long a health check waits for the other members.
const HEALTH_WAIT: Duration = Duration::from_secs(5);

async fn linearizable(server: &Server) -> Result<(), store::Error> {
    match tokio::time::timeout(HEALTH_WAIT, server.store.read_barrier()).await {
        Ok(read) => read.map(drop),
        Err(_) => Err(store::Error::Timeout),
    }
}

/// As etcd's: alarms unless excluded, a leader, and a read.
async fn health(server: &Server, query: &str) -> Response<Body> {
    let excluded = |name: &str| query.split('&').any(|part| part == format!("exclude={name}"));
    let serializable = query.split('&').any(|part| part == "serializable=true");
    let alarm = server.cluster.alarms().into_iter().find_map(|(_, alarm)| {
        let name = match alarm {
            Alarm::NoSpace => "NOSPACE",
            Alarm::Corrupt => "CORRUPT",
        };
        (!excluded(name)).then_some(name)
    });
    let trouble = server.store.health().err().filter(|error| !matches!(error, store::Error::NoLeader));
    let reason = match alarm {
        Some(name) => format!("ALARM {name}"),
        None if let Some(error) = trouble => format!("STORE {error}"),
        None if server.cluster.status().leader.is_none() && !serializable => "RAFT NO LEADER".to_owned(),
        None => {
            let read = if serializable { server.store.health() } else { linearizable(server).await };
            read.err()
                .map(|error| format!("RANGE ERROR:{}", status::of_store(&error).message()))
                .unwrap_or_default()
        }
    };
    let healthy = reason.is_empty();
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({ "health": healthy.to_string(), "reason": reason });
    text(code, JSON, body.to_string())
}

fn checks(checks: &[(&str, Result<(), store::Error>)], verbose: bool) -> Response<Body> {
    let failed = checks.iter().any(|(_, check)| check.is_err());
    let lines: String = checks
        .iter()
        .map(|(name, check)| match check {
            Ok(()) => format!("[+]{name} ok\n"),
            Err(error) => format!("[-]{name} failed: {error}\n"),
        })
        .collect();
    match (failed, verbose) {
        (true, _) => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines),
        (false, true) => text(StatusCode::OK, TEXT, lines + "ok\n"),
        (false, false) => text(StatusCode::OK, TEXT, "ok\n"),
    }
}
