//! `/openapi/v2` and `/openapi/v3`.

use std::sync::Arc;

use http::header::{ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderValue, Response};
use openapi::spec::{Document, V2_PROTOBUF, V2_PROTOBUF_AT};
use schema::Resource;

use crate::api::Call;
use crate::http::negotiate::clauses;
use crate::http::{Body, respond};
use crate::status::ApiResult;

/// Serves the document at `/openapi/PATH`.
pub(crate) fn serve(call: &Call<'_>, path: &str) -> ApiResult<Response<Body>> {
    let table = call.core.registry.resources.load();
    let custom: Vec<Arc<Resource>> =
        table.all().iter().filter(|s| s.resource.custom).map(|s| s.resource.clone()).collect();
    let openapi = &call.core.openapi;
    let wants_protobuf =
        clauses(&call.parts.headers).iter().any(|c| c.name == V2_PROTOBUF || c.name == V2_PROTOBUF_AT);
    Ok(match path {
        "v2" if wants_protobuf => answer(call, openapi.v2_protobuf(&custom), V2_PROTOBUF),
        "v2" => answer(call, openapi.v2(&custom), "application/json"),
        "v3" => respond::bytes(200, "application/json", index(call, openapi.v3_index(&custom))),
        path => match path.strip_prefix("v3/").and_then(|path| openapi.v3(path, &custom)) {
            Some(document) => answer(call, document, "application/json"),
            None => respond::page_not_found(),
        },
    })
}

/// The index with the documents of other servers.
fn index(call: &Call<'_>, own: bytes::Bytes) -> bytes::Bytes {
    if call.core.aggregation.is_empty() {
        return own;
    }
    let Ok(mut index) = codec::json::parse(&own) else { return own };
    crate::aggregation::openapi_index(&call.core.aggregation, &mut index);
    codec::json::encode(&index).into()
}

fn answer(call: &Call<'_>, document: Document, media: &'static str) -> Response<Body> {
    let tag = format!("\"{}\"", document.hash);
    let unchanged = call.parts.headers.get(IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut response = match unchanged {
        true => respond::not_modified(),
        false => respond::bytes(200, media, document.body),
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}
