//! PUT of an object.

use std::sync::Arc;

use http::Response;
use schema::Value;

use super::{Call, create, render};
use crate::http::Body;
use crate::http::negotiate::Accept;
use crate::registry::options::OptionsKind;
use crate::registry::{Served, Update, WriteOptions, meta};
use crate::status::{ApiError, ApiResult};

pub(super) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    let options = WriteOptions::parse(OptionsKind::Update, call.query, &call.parts.headers)?;
    let object = create::decode_object(call, served, &options, body).await?;
    check_name(&object, &call.info.name)?;
    let options_value = options.to_value("UpdateOptions");
    let context = call.write_context(served, &options, &options_value);
    let transform = |_: Option<&Value>| Ok(object.clone());
    let update = Update { transform: &transform, fields_tracked: false, force_create: false };
    let updated = context.update(&update).await?;
    let code = if updated.created { 201 } else { 200 };
    render::saved(call, served, accept, code, updated.saved).await
}

/// The object's name must be that of the URL.
pub(crate) fn check_name(object: &Value, url: &str) -> ApiResult<()> {
    let name = meta::name(object);
    if name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({url} based on URL) was undeterminable: name must be provided"
        )));
    }
    if name == url {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the name of the object ({name}) does not match the name on the URL ({url})"
    )))
}
