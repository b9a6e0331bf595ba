//! The receiving side.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base::TaskScope;
use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use store::MemberId;
use store::replicated::{Replicated, encode_members};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::{CLUSTER_HEADER, FROM_HEADER, MAX_FRAME_BYTES, MEMBERS_PATH, STREAM_PATH, TO_HEADER};
use crate::http::Listen;

/// Connections at once.
const MAX_CONNECTIONS: usize = 256;
/// How long a member may take over the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(5);
/// Bytes under way unread.
const WINDOW: u32 = 8 << 20;

/// Serves other members until the scope is cancelled. `own` is the member served.
pub async fn serve(store: Replicated, own: MemberId, listen: Listen, scope: TaskScope) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        while let Ok(slot) = slots.clone().acquire_owned().await {
            match accept(&listen.listener).await {
                Some(stream) => {
                    let member = Serving { store: store.clone(), own };
                    let tls = listen.tls.clone();
                    scope.spawn(async move {
                        member.connection(stream, tls).await;
                        drop(slot);
                    });
                }
                // Out of file descriptors, or somebody who is gone: others are served on.
                None => tokio::task::yield_now().await,
            }
        }
    };
    _ = scope.token().run_until_cancelled(accepting).await;
}

async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            _ = stream.set_nodelay(true);
            Some(stream)
        }
        Err(error) => {
            tracing::warn!(%error, "could not accept a member's connection");
            None
        }
    }
}

#[derive(Clone)]
struct Serving {
    store: Replicated,
    own: MemberId,
}

impl Serving {
    async fn connection(self, stream: TcpStream, tls: Option<Arc<rustls::ServerConfig>>) {
        let Some(tls) = tls else { return self.http(TokioIo::new(stream)).await };
        match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream)).await {
            Ok(Ok(stream)) => self.http(TokioIo::new(stream)).await,
            Ok(Err(error)) => tracing::warn!(%error, "a member's TLS handshake failed"),
            Err(_) => tracing::warn!("a member's TLS handshake took too long"),
        }
    }

    async fn http<I>(self, io: I)
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let service = hyper::service::service_fn(move |request| self.clone().answer(request));
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .serve_connection(io, service);
        if let Err(error) = served.await {
            tracing::debug!(%error, "a member's connection ended");
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (status, body) = match (request.method(), request.uri().path()) {
            (&Method::GET, MEMBERS_PATH) => {
                let (cluster_id, members) = self.store.member_list();
                // A member that knows nobody yet cannot tell.
                let status =
                    if members.is_empty() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
                (status, encode_members(cluster_id, &members))
            }
            (&Method::POST, STREAM_PATH) => (self.stream(request).await, Bytes::new()),
            _ => (StatusCode::NOT_FOUND, Bytes::new()),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        Ok(response)
    }

    /// Takes frames until the other side ends.
    async fn stream(&self, request: Request<Incoming>) -> StatusCode {
        let header = |name| {
            let value = request.headers().get(name)?.to_str().ok()?;
            u64::from_str_radix(value, 16).ok()
        };
        let (Some(cluster), Some(from), Some(to)) =
            (header(CLUSTER_HEADER), header(FROM_HEADER), header(TO_HEADER))
        else {
            return StatusCode::BAD_REQUEST;
        };
        if cluster != self.store.member_list().0 || to != self.own.0 {
            tracing::warn!(from = %MemberId(from), "a member of another cluster, or one that takes this for another");
            return StatusCode::PRECONDITION_FAILED;
        }
        if self.store.is_removed(MemberId(from)) {
            return StatusCode::GONE;
        }
        let mut body = request.into_body();
        let mut buffer = BytesMut::new();
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            buffer.extend_from_slice(&data);
            while let Some(length) =
                buffer.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes) as usize)
            {
                if length > MAX_FRAME_BYTES {
                    return StatusCode::PAYLOAD_TOO_LARGE;
                }
                if buffer.len() < length + 4 {
                    break;
                }
                buffer.advance(4);
                self.store.deliver(buffer.split_to(length).freeze());
            }
        }
        StatusCode::OK
    }
}
