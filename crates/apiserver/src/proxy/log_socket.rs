//! Logs over WebSocket (upstream `wsstream.Reader`): every piece of the log is a message of its own, then the socket is
//! closed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::hop::upgrade_of;
use crate::api::Call;
use crate::http::Body;
use crate::status::{ApiError, ApiResult};

const PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";
/// The client has nothing to say but a close.
const MAX_MESSAGE_BYTES: usize = 4096;

/// What was agreed with the client.
#[derive(Debug, PartialEq, Eq)]
pub struct Agreed {
    accept_key: String,
    /// None if the client named no protocol: then as `binary.k8s.io`.
    protocol: Option<&'static str>,
}

/// What the request for a WebSocket agrees on; None if it is an ordinary request.
pub fn agree(headers: &HeaderMap) -> ApiResult<Option<Agreed>> {
    if !upgrade_of(headers).is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket")) {
        return Ok(None);
    }
    let key = headers
        .get("sec-websocket-key")
        .ok_or_else(|| ApiError::bad_request("a WebSocket needs a Sec-WebSocket-Key"))?;
    let offered: Vec<&str> = headers
        .get_all(PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let known = |offer: &&str| [BINARY, BASE64].into_iter().find(|name| name == offer);
    let protocol = offered.iter().find_map(known);
    if protocol.is_none() && !offered.is_empty() {
        return Err(ApiError::new(
            403,
            "Forbidden",
            format!("requested protocol(s) are not supported: {offered:?}"),
        ));
    }
    Ok(Some(Agreed { accept_key: derive_accept_key(key.as_bytes()), protocol }))
}

/// Answers with a WebSocket that carries `log`.
pub fn answer(call: &Call<'_>, agreed: Agreed, log: Body) -> ApiResult<Response<Body>> {
    let Some(client) = call.parts.extensions.get::<OnUpgrade>().cloned() else {
        return Err(ApiError::not_implemented("upgrading an in-process request"));
    };
    let base64 = agreed.protocol == Some(BASE64);
    call.core.scope.spawn(async move {
        match client.await {
            Ok(io) => send(TokioIo::new(io), base64, log).await,
            Err(error) => tracing::debug!(%error, "upgrade"),
        }
    });
    let mut response = Response::new(crate::http::body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let key = HeaderValue::try_from(agreed.accept_key).map_err(|e| ApiError::internal(e.to_string()))?;
    headers.insert(HeaderName::from_static("sec-websocket-accept"), key);
    if let Some(protocol) = agreed.protocol {
        headers.insert(PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(response)
}

async fn send(io: impl AsyncRead + AsyncWrite + Unpin, base64: bool, mut log: Body) {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE_BYTES));
    let (mut to, mut from) = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await.split();
    let writing = async {
        while let Some(Ok(frame)) = log.frame().await {
            let Ok(piece) = frame.into_data() else { continue };
            if !piece.is_empty() && to.send(message(base64, piece)).await.is_err() {
                return;
            }
        }
        let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        if to.send(Message::Close(Some(close))).await.is_ok() {
            let _ = to.close().await;
        }
    };
    let reading = async { while from.next().await.is_some_and(|said| said.is_ok_and(|m| !m.is_close())) {} };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}

fn message(base64: bool, piece: Bytes) -> Message {
    match base64 {
        true => Message::Text(STANDARD.encode(piece).into()),
        false => Message::Binary(piece),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(protocols: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        // Key and answer of RFC 6455, section 1.3.
        headers.insert("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        for protocol in protocols {
            headers.append(PROTOCOL, HeaderValue::try_from(*protocol).unwrap());
        }
        headers
    }

    #[test]
    fn the_first_known_protocol_is_agreed_on() {
        for (offered, expected) in [
            (&[][..], Some(None)),
            (&["binary.k8s.io"][..], Some(Some(BINARY))),
            (&["other, base64.binary.k8s.io", "binary.k8s.io"][..], Some(Some(BASE64))),
            (&["v4.channel.k8s.io"][..], None),
        ] {
            let agreed = agree(&headers(offered)).ok().flatten();
            assert_eq!(agreed.as_ref().map(|a| a.protocol), expected, "{offered:?}");
            if let Some(agreed) = agreed {
                assert_eq!(agreed.accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            }
        }
        assert_eq!(agree(&HeaderMap::new()).unwrap(), None);
    }

    #[tokio::test]
    async fn the_log_comes_in_messages_and_then_the_close() {
        for (base64, expected) in
            [(false, Message::Binary("alive\n".into())), (true, Message::Text("YWxpdmUK".into()))]
        {
            let (near, far) = tokio::io::duplex(4096);
            let log = http_body_util::Full::new(Bytes::from_static(b"alive\n"));
            let log: Body = log.map_err(|never| match never {}).boxed_unsync();
            let (mut client, ()) = tokio::join!(
                WebSocketStream::from_raw_socket(far, Role::Client, None),
                send(near, base64, log)
            );
            assert_eq!(client.next().await.unwrap().unwrap(), expected);
            assert!(client.next().await.unwrap().unwrap().is_close());
        }
    }
}
