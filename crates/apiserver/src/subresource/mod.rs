//! Subresources other than status: scale, binding, eviction, token, approval, finalize, and those that connect.

mod binding;
mod eviction;
mod partial;
pub(crate) mod scale;
mod token;

use std::sync::Arc;

use http::Response;
use schema::{Catalog, GroupVersionKind, Value};

use crate::api::Call;
use crate::encoding::{self, Expected};
use crate::http::negotiate::{Accept, body_media};
use crate::http::{Body, body, respond};
use crate::registry::{Served, WriteOptions};
use crate::request::RequestInfo;
use crate::status::{ApiError, ApiResult, success};

pub use binding::bind_by_body;
pub use token::{IssuedToken, TokenClaims, TokenIssuer};

/// How this request connects the client to something else, if it does.
pub fn connect(served: &Served, info: &RequestInfo) -> Option<crate::proxy::Connect> {
    crate::proxy::Connect::of(served, info)
}

/// Serves a subresource that reads or writes objects.
pub async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    let plural = served.resource.plural.as_str();
    match (plural, call.info.subresource.as_str(), call.info.verb) {
        (_, "scale", _) => scale::serve(call, served, accept, body).await,
        ("pods", "binding", "create") => binding::serve(call, served, accept, body).await,
        ("pods", "eviction", "create") => eviction::serve(call, served, accept, body).await,
        ("serviceaccounts", "token", "create") => token::serve(call, served, accept, body).await,
        (_, "ephemeralcontainers" | "resize" | "approval" | "finalize", _) => {
            partial::serve(call, served, accept, body).await
        }
        _ => Err(ApiError::not_implemented(&format!("subresource {plural}/{}", call.info.subresource))),
    }
}

/// The request's body as an object of the subresource's kind, defaulted.
pub(crate) async fn decode_body(
    call: &Call<'_>,
    served: &Served,
    options: &WriteOptions,
    body: Body,
) -> ApiResult<Value> {
    let kind = served.resource.subresource(&call.info.subresource).ok_or_else(ApiError::unknown_resource)?;
    let media = body_media(&call.parts.headers, served.resource.custom)?;
    let bytes = body::read(body).await?;
    let expected = Expected { schema: &kind.schema, gvk: kind.kind.clone(), custom: false };
    let mut object = encoding::decode(media, &bytes, &expected, options.field_validation, call.warnings)?;
    rules::apply_defaults(kind.schema.root(), &mut object);
    Ok(object)
}

/// A `Status` that says that all went well.
pub(crate) fn done(accept: Accept, code: u16) -> ApiResult<Response<Body>> {
    let schema = Catalog::builtin().kind(&GroupVersionKind::new("", "v1", "Status"));
    respond::object(code, &success(None, Some(code)), accept, schema)
}
