//! Passing a request on to the server of its group and version.

use base::UserInfo;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::Remote;
use crate::api::Call;
use crate::audit::PeerAddress;
use crate::http::{Body, respond};
use crate::outbound::connect;
use crate::proxy::{NOT_PASSED, upgrade_of};
use crate::status::{ApiError, ApiResult};

/// Sends the request to `remote` as the user who asks, and gives the answer; after `101` the bytes of both sides are
/// passed on until one of them ends.
pub(crate) async fn serve(call: &Call<'_>, remote: &Remote, body: Body) -> ApiResult<Response<Body>> {
    let unavailable = || respond::text(503, "service unavailable\n");
    if !remote.available {
        return Ok(unavailable());
    }
    let (Ok((host, port)), Ok(tls)) = (remote.address(call.core), &remote.tls) else {
        return Ok(unavailable());
    };
    let unreachable = |why: String| respond::text(503, format!("error trying to reach service: {why}\n"));
    let stream = match connect(&host, port, Some(tls)).await {
        Ok(stream) => stream,
        Err(why) => return Ok(unreachable(why)),
    };
    let upgrade = upgrade_of(&call.parts.headers).map(str::to_owned);
    let request = request(call, remote, upgrade.as_deref(), body)?;
    let (mut sender, connection) = match http1::Builder::new().handshake(TokioIo::new(stream)).await {
        Ok(both) => both,
        Err(error) => return Ok(unreachable(error.to_string())),
    };
    call.core.scope.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to an aggregated server");
        }
    });
    match sender.send_request(request).await {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => tunnel(call, response),
        Ok(response) => {
            let mut response = response.map(|body| body.map_err(Into::into).boxed_unsync());
            for name in ["connection", "transfer-encoding", "keep-alive"] {
                response.headers_mut().remove(name);
            }
            Ok(response)
        }
        Err(error) => Ok(unreachable(error.to_string())),
    }
}

fn tunnel(call: &Call<'_>, mut response: Response<hyper::body::Incoming>) -> ApiResult<Response<Body>> {
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

fn request(call: &Call<'_>, remote: &Remote, upgrade: Option<&str>, body: Body) -> ApiResult<Request<Body>> {
    let wrong = |e: http::header::InvalidHeaderValue| ApiError::bad_request(e.to_string());
    let mut request = Request::new(body);
    *request.method_mut() = call.parts.method.clone();
    let path = call.parts.uri.path_and_query().map_or("/", |p| p.as_str());
    *request.uri_mut() = path.parse().map_err(|e| ApiError::bad_request(format!("path {path}: {e}")))?;
    let headers = request.headers_mut();
    for (name, value) in &call.parts.headers {
        let text = name.as_str();
        let of_user = text.starts_with("impersonate-") || text.starts_with("x-remote-");
        if !of_user && !NOT_PASSED.contains(&text) {
            headers.append(name, value.clone());
        }
    }
    let host = format!("{}.{}.svc", remote.service, remote.namespace);
    headers.insert(HOST, HeaderValue::try_from(host).map_err(wrong)?);
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::try_from(upgrade).map_err(wrong)?);
    }
    if let Some(PeerAddress(peer)) = call.parts.extensions.get() {
        let peer = HeaderValue::try_from(peer.ip().to_canonical().to_string()).map_err(wrong)?;
        headers.append("x-forwarded-for", peer);
    }
    name_user(headers, call.user)?;
    Ok(request)
}

/// Says who asks, as front proxies do.
fn name_user(headers: &mut HeaderMap, user: &UserInfo) -> ApiResult<()> {
    let value = |text: &str| {
        HeaderValue::from_bytes(text.as_bytes())
            .map_err(|e| ApiError::internal(format!("name the user: {e}")))
    };
    headers.insert("x-remote-user", value(&user.name)?);
    if !user.uid.is_empty() {
        headers.insert("x-remote-uid", value(&user.uid)?);
    }
    for group in &user.groups {
        headers.append("x-remote-group", value(group)?);
    }
    for (key, texts) in &user.extra {
        let name = HeaderName::try_from(format!("x-remote-extra-{}", escape(key)))
            .map_err(|e| ApiError::internal(format!("name the user: {e}")))?;
        for text in texts {
            headers.append(&name, value(text)?);
        }
    }
    Ok(())
}

/// A key as a part of a header's name: what may not be there is percent-encoded.
fn escape(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&b);
    let escaped = key.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02x}") });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_by_headers() {
        let mut headers = HeaderMap::new();
        let mut user = UserInfo::authenticated("ann", &["a", "b"]);
        user.extra.insert("acme.com/project".to_owned(), vec!["p".to_owned()]);
        name_user(&mut headers, &user).unwrap();
        assert_eq!(headers["x-remote-user"], "ann");
        assert_eq!(headers["x-remote-extra-acme.com%2fproject"], "p");
        assert!(headers.get_all("x-remote-group").iter().count() >= 2);
    }
}
