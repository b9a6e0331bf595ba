//! What every passing on of a request has in common: headers that are for one hop alone, and tunnels after upgrades.

use http::header::{CONNECTION, HeaderName, HeaderValue, InvalidHeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::api::Call;
use crate::http::Body;
use crate::status::{ApiError, ApiResult};

/// Headers of one hop, which are not passed on; and those that say who the client is, which the other end must not
/// learn.
const NOT_PASSED: [&str; 10] = [
    "authorization",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
];

/// The protocol that the client wants to change to.
pub fn upgrade_of(headers: &HeaderMap) -> Option<&str> {
    let wants = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|v| v.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| wants)?.to_str().ok()
}

/// Copies the headers that are for the other end, but those that begin with one of `hidden`.
pub fn copy_headers(from: &HeaderMap, to: &mut HeaderMap, hidden: &[&str]) {
    for (name, value) in from {
        let text = name.as_str();
        if !NOT_PASSED.contains(&text) && !hidden.iter().any(|prefix| text.starts_with(prefix)) {
            to.append(name, value.clone());
        }
    }
}

/// Asks the other end to change to `protocol`.
pub fn ask_upgrade(headers: &mut HeaderMap, protocol: &str) -> Result<(), InvalidHeaderValue> {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::try_from(protocol)?);
    Ok(())
}

/// The other end's answer as ours.
pub fn answer(response: Response<Incoming>) -> Response<Body> {
    let mut response = response.map(|body| body.map_err(Into::into).boxed_unsync());
    for name in [CONNECTION, TRANSFER_ENCODING, HeaderName::from_static("keep-alive")] {
        response.headers_mut().remove(name);
    }
    response
}

/// Answers the client as the other end did with `101`, and passes on the bytes of both until one of them ends.
pub fn tunnel(call: &Call<'_>, mut response: Response<Incoming>) -> ApiResult<Response<Body>> {
    let Some(client) = call.parts.extensions.get::<OnUpgrade>().cloned() else {
        return Err(ApiError::not_implemented("upgrading an in-process request"));
    };
    let other = hyper::upgrade::on(&mut response);
    call.core.scope.spawn(async move {
        let (client, other) = match tokio::try_join!(client, other) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "upgrade"),
        };
        let (mut client, mut other) = (TokioIo::new(client), TokioIo::new(other));
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut other).await {
            tracing::debug!(%error, "tunnel");
        }
    });
    let mut switched = Response::new(crate::http::body::empty());
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switched.headers_mut() = response.headers().clone();
    Ok(switched)
}
