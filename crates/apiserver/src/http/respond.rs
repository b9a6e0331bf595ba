//! Answers.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use schema::{Schema, Value};

use super::body::{Body, full};
use super::negotiate::{Accept, Media};
use crate::encoding;
use crate::status::{ApiError, ApiResult};

/// `text` with that status as plain text.
pub fn text(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    bytes(code, "text/plain; charset=utf-8", text)
}

/// `body` with that status and media type.
pub fn bytes(code: u16, media: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// JSON of any value, with a line's end.
pub fn json(code: u16, value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(mut out) => {
            out.push(b'\n');
            bytes(code, Media::Json.name(), out)
        }
        Err(e) => error(&ApiError::internal(e), Accept::JSON),
    }
}

/// An object as it is.
pub fn object(
    code: u16,
    value: &Value,
    accept: Accept,
    schema: Option<&Schema>,
) -> ApiResult<Response<Body>> {
    let out = encoding::encode(value, accept.media, accept.pretty, schema)?;
    Ok(bytes(code, accept.media.name(), out))
}

/// An error, as a Status.
pub fn error(error: &ApiError, accept: Accept) -> Response<Body> {
    let body = error.to_json();
    let mut response = match (accept.media, accept.pretty) {
        (Media::Json, false) => {
            let mut body = body;
            body.push(b'\n');
            bytes(error.code, Media::Json.name(), body)
        }
        _ => {
            let value: Value = serde_json::from_slice(&body).unwrap_or_default();
            let schema = schema::Catalog::builtin().kind(&schema::GroupVersionKind::new("", "v1", "Status"));
            match encoding::encode(&value, accept.media, accept.pretty, schema) {
                Ok(out) => bytes(error.code, accept.media.name(), out),
                Err(_) => bytes(error.code, Media::Json.name(), body),
            }
        }
    };
    let retry_after_s = error.details.as_ref().map_or(0, |d| d.retry_after_s);
    if retry_after_s > 0 && matches!(error.code, 429 | 500 | 503 | 504) {
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(retry_after_s));
    }
    response
}

/// 304: what the client has is still right. Says nothing of the body, since caches would believe it.
pub fn not_modified() -> Response<Body> {
    let mut response = Response::new(super::body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// 404 of paths that name nothing.
pub fn page_not_found() -> Response<Body> {
    let mut response = text(404, "404 page not found\n");
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// Adds one `Warning` header per text.
pub fn add_warnings(response: &mut Response<Body>, warnings: Vec<String>) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append("warning", value);
        }
    }
}
