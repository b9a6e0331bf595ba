//! POST of a new object.

use std::sync::Arc;

use http::Response;
use schema::Value;

use super::{Call, render};
use crate::encoding::{self, Expected};
use crate::http::negotiate::{Accept, body_media};
use crate::http::{Body, body};
use crate::registry::options::OptionsKind;
use crate::registry::{Served, WriteOptions};
use crate::status::ApiResult;

pub(super) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    let options = WriteOptions::parse(OptionsKind::Create, call.query, &call.parts.headers)?;
    let object = decode_object(call, served, &options, body).await?;
    let options_value = options.to_value("CreateOptions");
    let context = call.write_context(served, &options, &options_value);
    let saved = context.create(object).await?;
    render::saved(call, served, accept, 201, saved).await
}

/// The request's body as an object of the resource's kind, defaulted.
pub(crate) async fn decode_object(
    call: &Call<'_>,
    served: &Served,
    options: &WriteOptions,
    body: Body,
) -> ApiResult<Value> {
    let media = body_media(&call.parts.headers, served.resource.custom)?;
    let bytes = body::read(body).await?;
    let resource = &served.resource;
    let expected = Expected { schema: &resource.schema, gvk: resource.gvk(), custom: resource.custom };
    let mut object = encoding::decode(media, &bytes, &expected, options.field_validation, call.warnings)?;
    apply_defaults(served, &mut object);
    Ok(object)
}

/// Fills what may be left out, by schema and by the kind's own rules.
pub(crate) fn apply_defaults(served: &Served, object: &mut Value) {
    rules::apply_defaults(served.resource.schema.root(), object);
    served.strategy.default_fields(object);
}
