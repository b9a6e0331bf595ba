//! Passing a request on, and after an upgrade the bytes of both sides.

use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::Connect;
use super::dial::{body_of, dial};
use super::location::{Location, Scheme};
use crate::api::Call;
use crate::http::Body;
use crate::status::{ApiError, ApiResult};

/// Headers of one hop, which are not passed on; and those that say who the client is, which the other end must not
/// learn.
pub(crate) const NOT_PASSED: [&str; 10] = [
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

/// Sends the request to `location` and gives the answer; after `101` the bytes of both sides are passed on until
/// one of them ends.
pub async fn forward(
    call: &Call<'_>,
    location: &Location,
    connect: Connect,
    body: Body,
) -> ApiResult<Response<Body>> {
    let upgrade = upgrade_of(&call.parts.headers).map(str::to_owned);
    if connect.is_stream() && upgrade.is_none() {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let request = request(call, location, upgrade.as_deref(), body)?;
    let mut sender = dial(call.core, location).await?;
    let mut response = sender
        .send_request(request)
        .await
        .map_err(|e| ApiError::unavailable(format!("error trying to reach service: {e}")))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return answer(connect, response).await;
    }
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

fn request(
    call: &Call<'_>,
    location: &Location,
    upgrade: Option<&str>,
    body: Body,
) -> ApiResult<http::Request<Body>> {
    let mut request = http::Request::new(body);
    *request.method_mut() = call.parts.method.clone();
    *request.uri_mut() = location.uri.clone();
    let headers = request.headers_mut();
    for (name, value) in &call.parts.headers {
        let own = name.as_str().starts_with("impersonate-") || NOT_PASSED.contains(&name.as_str());
        if !own {
            headers.append(name, value.clone());
        }
    }
    let wrong = |e: http::header::InvalidHeaderValue| ApiError::bad_request(e.to_string());
    let host = match location.host.contains(':') {
        true => format!("[{}]:{}", location.host, location.port),
        false => format!("{}:{}", location.host, location.port),
    };
    headers.insert(HOST, HeaderValue::try_from(host).map_err(wrong)?);
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::try_from(upgrade).map_err(wrong)?);
    } else if location.scheme != Scheme::Kubelet {
        let uri = call.parts.uri.path();
        headers
            .insert(HeaderName::from_static("x-forwarded-uri"), HeaderValue::try_from(uri).map_err(wrong)?);
        headers.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("https"));
    }
    headers.remove(AUTHORIZATION);
    Ok(request)
}

/// The other end's answer as ours. What a kubelet refuses is told in a Status.
async fn answer(connect: Connect, response: Response<hyper::body::Incoming>) -> ApiResult<Response<Body>> {
    let code = response.status();
    let from_kubelet = connect.is_stream() || connect == Connect::Log;
    if from_kubelet && !code.is_success() {
        let bytes = crate::http::body::read(body_of(response.into_body())).await.unwrap_or_default();
        let words = String::from_utf8_lossy(&bytes).trim().to_owned();
        return Err(match code.as_u16() {
            400 => ApiError::bad_request(words),
            404 => ApiError::new(
                404,
                "NotFound",
                format!("the server could not find the requested resource ({words})"),
            ),
            401 | 403 => ApiError::internal(format!("the kubelet refused this server: {words}")),
            code => ApiError::new(code.max(400), "InternalError", words),
        });
    }
    let mut response = response.map(body_of);
    for name in [CONNECTION, TRANSFER_ENCODING, HeaderName::from_static("keep-alive")] {
        response.headers_mut().remove(name);
    }
    Ok(response)
}
