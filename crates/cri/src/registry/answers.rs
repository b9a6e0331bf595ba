//! Reading a registry's answers: its refusals, redirects and bodies.

use bytes::Bytes;
use http::header::{CONTENT_RANGE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::RegistryError;
use super::auth::Challenge;
use super::client::{IDLE_TIMEOUT, MAX_ERROR_BODY, Result};

pub(super) fn challenge_of(headers: &HeaderMap) -> Option<Challenge> {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|h| h.to_str().ok()).find_map(Challenge::parse)
}

pub(super) async fn refusal(url: &str, name: &str, response: Response<Incoming>) -> RegistryError {
    let status = response.status();
    let body = read_limited(response.into_body(), MAX_ERROR_BODY, url).await.unwrap_or_default();
    let said = registry_message(&body);
    match status {
        StatusCode::NOT_FOUND => RegistryError::NotFound { name: name.to_owned() },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied {
            message: said.unwrap_or_else(|| "insufficient_scope: authorization failed".to_owned()),
        },
        _ => RegistryError::Status {
            url: url.to_owned(),
            status: status.to_string(),
            message: said.map(|s| format!(": {s}")).unwrap_or_default(),
        },
    }
}

/// The registry's own words, in the error format of the distribution specification.
fn registry_message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let said: Vec<String> = value
        .get("errors")?
        .as_array()?
        .iter()
        .map(|error| {
            let field = |name: &str| error.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
            format!("{}: {}", field("code").to_lowercase(), field("message"))
        })
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

pub(super) async fn read_limited(body: Incoming, limit: usize, url: &str) -> Result<Bytes> {
    let read = Limited::new(body, limit).collect();
    match tokio::time::timeout(IDLE_TIMEOUT, read).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(RegistryError::Unreachable { url: url.to_owned(), message: error.to_string() }),
        Err(_) => Err(RegistryError::Unreachable {
            url: url.to_owned(),
            message: format!("the answer did not end within {IDLE_TIMEOUT:?}"),
        }),
    }
}

pub(super) fn redirect_target(from: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let location = headers.get(LOCATION)?.to_str().ok()?;
    if location.starts_with('/') {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = Some(location.parse().ok()?);
        return Uri::from_parts(parts).ok();
    }
    let target: Uri = location.parse().ok()?;
    // A secure registry must not send its clients to an open connection.
    let downgrade = from.scheme_str() == Some("https") && target.scheme_str() == Some("http");
    (!downgrade && target.scheme().is_some() && target.authority().is_some()).then_some(target)
}

pub(super) fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

pub(super) fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
}

pub(super) fn parse_uri(url: &str) -> Result<Uri> {
    url.parse().map_err(|e| invalid(url, e))
}

pub(super) fn invalid(url: &str, message: impl ToString) -> RegistryError {
    RegistryError::Invalid { url: url.to_owned(), message: message.to_string() }
}

pub(super) fn connection_refused(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Unreachable { message, .. }
        if message.contains("refused") || message.contains("InvalidContentType"))
}

/// An error with all its causes, since hyper's own text is only "client error (Connect)".
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_do_not_leave_tls() {
        let from: Uri = "https://r.example/v2/a/blobs/x".parse().unwrap();
        let to = |location: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, location.parse().unwrap());
            redirect_target(&from, &headers).map(|u| u.to_string())
        };
        assert_eq!(to("/y?z=1").as_deref(), Some("https://r.example/y?z=1"));
        assert_eq!(to("https://cdn.example/b").as_deref(), Some("https://cdn.example/b"));
        assert_eq!(to("http://cdn.example/b"), None);
        assert_eq!(to("relative"), None);
    }

    #[test]
    fn the_registrys_words_are_kept() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        assert_eq!(registry_message(body).as_deref(), Some("manifest_unknown: manifest unknown"));
        assert_eq!(registry_message(b"<html>"), None);
    }
}
