//! Passing a request on to a kubelet or pod.

use http::header::{HOST, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::Connect;
use super::dial::dial;
use super::hop::{self, upgrade_of};
use super::location::{Location, Scheme};
use crate::api::Call;
use crate::http::Body;
use crate::status::{ApiError, ApiResult};

/// Sends the request to `location` and gives the answer; after `101` the bytes of both sides are passed on until
/// one of them ends.
pub async fn forward(
    call: &Call<'_>,
    location: &Location,
    connect: Connect,
    body: Body,
) -> ApiResult<Response<Body>> {
    // A log over WebSocket is a matter between the client and this server.
    let upgrade = upgrade_of(&call.parts.headers).filter(|_| connect != Connect::Log).map(str::to_owned);
    if connect.is_stream() && upgrade.is_none() {
        return Err(ApiError::bad_request("Upgrade request required"));
    }
    let request = request(call, location, upgrade.as_deref(), body)?;
    let mut sender = dial(call.core, location).await?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|e| ApiError::unavailable(format!("error trying to reach service: {e}")))?;
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => hop::tunnel(call, response),
        _ => answer(connect, response).await,
    }
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
    hop::copy_headers(&call.parts.headers, headers, &["impersonate-"]);
    let wrong = |e: http::header::InvalidHeaderValue| ApiError::bad_request(e.to_string());
    headers.insert(HOST, HeaderValue::try_from(location.authority()).map_err(wrong)?);
    if let Some(upgrade) = upgrade {
        hop::ask_upgrade(headers, upgrade).map_err(wrong)?;
    } else if location.scheme != Scheme::Kubelet {
        let uri = call.parts.uri.path();
        headers
            .insert(HeaderName::from_static("x-forwarded-uri"), HeaderValue::try_from(uri).map_err(wrong)?);
        headers.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("https"));
        let host = HeaderValue::try_from(our_host(call)).map_err(wrong)?;
        headers.insert(HeaderName::from_static("x-forwarded-host"), host);
    }
    Ok(request)
}

/// The host by which the client calls this server; empty in the process.
pub fn our_host<'a>(call: &'a Call<'_>) -> &'a str {
    let named = call.parts.uri.authority().map(http::uri::Authority::as_str);
    named.or_else(|| call.parts.headers.get(HOST)?.to_str().ok()).unwrap_or_default()
}

/// The other end's answer as ours. What a kubelet refuses is told in a Status.
async fn answer(connect: Connect, response: Response<hyper::body::Incoming>) -> ApiResult<Response<Body>> {
    let code = response.status();
    let from_kubelet = connect.is_stream() || connect == Connect::Log;
    if from_kubelet && !code.is_success() {
        let bytes = crate::http::body::read(hop::answer(response).into_body()).await.unwrap_or_default();
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
    Ok(hop::answer(response))
}
