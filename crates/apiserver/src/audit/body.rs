//! Request bodies as events show them.

use bytes::Bytes;
use http::HeaderMap;
use schema::{Catalog, GroupVersion, Value};

use crate::http::negotiate::content_type;

/// The object or patch in a request's body; `None` if it cannot be read, which the request's own error will tell.
pub fn decode(headers: &HeaderMap, body: &Bytes) -> Option<Value> {
    if body.is_empty() {
        return None;
    }
    match content_type(headers).as_str() {
        "application/vnd.kubernetes.protobuf" => {
            let envelope = codec::protobuf::unwrap(body).ok()?;
            let version = GroupVersion::parse(envelope.api_version)?;
            let kind = schema::GroupVersionKind::new(version.group, version.version, envelope.kind);
            let mut object = codec::protobuf::decode(body, Catalog::builtin().kind(&kind)?).ok()?;
            object.insert("kind", envelope.kind);
            object.insert("apiVersion", envelope.api_version);
            Some(object)
        }
        media if media.ends_with("yaml") => codec::yaml::parse(body).ok(),
        _ => codec::json::parse(body).ok(),
    }
}
