//! The HTTP side: looks up what an address stands for and upgrades the connection.

use std::convert::Infallible;
use std::sync::Arc;

use base::TaskScope;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Pending, Tokens, portforward, spdy_remote, websocket, ws_portforward};

/// The most connections at a time.
const MAX_CONNECTIONS: usize = 1024;
const SPDY: &str = "SPDY/3.1";
const SPDY_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPT_KEY: HeaderName = HeaderName::from_static("sec-websocket-accept");

type Answer = Response<Full<Bytes>>;

/// Serves connections until the scope ends.
pub async fn serve(listener: TcpListener, tokens: Arc<Tokens>, scope: TaskScope) {
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (tokens, scope) = (tokens.clone(), scope.clone());
                let connection = scope.clone();
                connection.spawn(async move {
                    serve_connection(stream, tokens, scope).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a stream's connection was not accepted");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, tokens: Arc<Tokens>, scope: TaskScope) {
    let service = service_fn(move |request| {
        let answer = handle(request, &tokens, &scope);
        async move { Ok::<_, Infallible>(answer) }
    });
    let builder = hyper::server::conn::http1::Builder::new();
    let served = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
    if let Err(error) = served {
        tracing::debug!(%error, "a stream's connection ended");
    }
}

fn handle(mut request: Request<Incoming>, tokens: &Tokens, scope: &TaskScope) -> Answer {
    let Some(pending) = request.uri().path().rsplit('/').next().and_then(|token| tokens.take(token)) else {
        return refuse(StatusCode::NOT_FOUND, "unknown or expired stream token");
    };
    let headers = request.headers().clone();
    let upgrade = hyper::upgrade::on(&mut request);
    match headers.get(UPGRADE).and_then(|v| v.to_str().ok()) {
        Some(kind) if kind.eq_ignore_ascii_case("websocket") => websocket(&headers, upgrade, pending, scope),
        Some(kind) if kind.eq_ignore_ascii_case(SPDY) => spdy(&headers, upgrade, pending, scope),
        _ => refuse(StatusCode::BAD_REQUEST, "unable to upgrade: missing upgrade headers in request"),
    }
}

fn websocket(headers: &HeaderMap, upgrade: OnUpgrade, pending: Pending, scope: &TaskScope) -> Answer {
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY) else {
        return refuse(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing");
    };
    let accept = derive_accept_key(key.as_bytes());
    let offered = listed(headers, &SEC_WEBSOCKET_PROTOCOL);
    let supported: &[&str] = match pending {
        Pending::PortForward(..) => &ws_portforward::PROTOCOLS,
        _ => &websocket::PROTOCOLS,
    };
    let chosen = offered.iter().find(|p| supported.contains(&p.as_str())).cloned();
    if chosen.is_none() && !offered.is_empty() {
        return refuse(StatusCode::FORBIDDEN, &format!("none of the subprotocols {offered:?} is supported"));
    }
    let protocol = chosen.clone().unwrap_or_default();
    scope.spawn(async move {
        match upgrade.await {
            Ok(io) => match pending {
                Pending::PortForward(netns, ports) => {
                    ws_portforward::run(TokioIo::new(io), &protocol, netns, ports).await;
                }
                other => websocket::run(TokioIo::new(io), &protocol, other).await,
            },
            Err(error) => tracing::debug!(%error, "WebSocket upgrade failed"),
        }
    });
    let mut answer = switching("websocket").header(ACCEPT_KEY, accept);
    if let Some(protocol) = chosen {
        answer = answer.header(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    finish(answer)
}

fn spdy(headers: &HeaderMap, upgrade: OnUpgrade, pending: Pending, scope: &TaskScope) -> Answer {
    let offered = listed(headers, &SPDY_PROTOCOL);
    let supported: &[&str] = match pending {
        Pending::PortForward(..) => &portforward::PROTOCOLS,
        _ => &spdy_remote::PROTOCOLS,
    };
    let chosen = offered.iter().find(|p| supported.contains(&p.as_str())).cloned();
    if chosen.is_none() && !offered.is_empty() {
        let text = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server accepts {supported:?}"
        );
        return refuse(StatusCode::FORBIDDEN, &text);
    }
    let protocol = chosen.clone().unwrap_or_default();
    scope.spawn(async move {
        match upgrade.await {
            Ok(io) => match pending {
                Pending::PortForward(netns, _) => portforward::run(TokioIo::new(io), netns).await,
                other => spdy_remote::run(TokioIo::new(io), &protocol, other).await,
            },
            Err(error) => tracing::debug!(%error, "SPDY upgrade failed"),
        }
    });
    let mut answer = switching(SPDY);
    if let Some(protocol) = chosen {
        answer = answer.header(SPDY_PROTOCOL, protocol);
    }
    finish(answer)
}

/// The values of a header that may be repeated or hold a list.
fn listed(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
}

fn switching(to: &str) -> http::response::Builder {
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, to)
}

fn refuse(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Full::from(text.to_owned()));
    *answer.status_mut() = status;
    answer
}

fn finish(builder: http::response::Builder) -> Answer {
    builder.body(Full::default()).unwrap_or_else(|_| refuse(StatusCode::BAD_REQUEST, "invalid protocol name"))
}
