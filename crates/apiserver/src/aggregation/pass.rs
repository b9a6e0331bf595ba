//! Passing a request on to the server of its group and version.

use base::UserInfo;
use http::header::{HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};

use super::Remote;
use crate::api::Call;
use crate::audit::PeerAddress;
use crate::http::{Body, respond};
use crate::proxy::hop::{self, upgrade_of};
use crate::proxy::open;
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
    let mut sender = match open(call.core, &host, port, Some(tls)).await {
        Ok(sender) => sender,
        Err(why) => return Ok(unreachable(why)),
    };
    let upgrade = upgrade_of(&call.parts.headers).map(str::to_owned);
    let request = request(call, remote, upgrade.as_deref(), body)?;
    match sender.send_request(request).await {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => hop::tunnel(call, response),
        Ok(response) => Ok(hop::answer(response)),
        Err(error) => Ok(unreachable(error.to_string())),
    }
}

fn request(call: &Call<'_>, remote: &Remote, upgrade: Option<&str>, body: Body) -> ApiResult<Request<Body>> {
    let wrong = |e: http::header::InvalidHeaderValue| ApiError::bad_request(e.to_string());
    let mut request = Request::new(body);
    *request.method_mut() = call.parts.method.clone();
    let path = call.parts.uri.path_and_query().map_or("/", |p| p.as_str());
    *request.uri_mut() = path.parse().map_err(|e| ApiError::bad_request(format!("path {path}: {e}")))?;
    let headers = request.headers_mut();
    hop::copy_headers(&call.parts.headers, headers, &["impersonate-", "x-remote-"]);
    let host = format!("{}.{}.svc", remote.service, remote.namespace);
    headers.insert(HOST, HeaderValue::try_from(host).map_err(wrong)?);
    if let Some(upgrade) = upgrade {
        hop::ask_upgrade(headers, upgrade).map_err(wrong)?;
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
