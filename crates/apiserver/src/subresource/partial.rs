//! Subresources that take the whole object and change a part of it: ephemeralcontainers, resize, approval, finalize.

use std::sync::Arc;

use http::Response;
use schema::Value;

use crate::api::Call;
use crate::api::patch::{PatchKind, serve_patch};
use crate::http::negotiate::Accept;
use crate::http::{Body, body};
use crate::registry::options::OptionsKind;
use crate::registry::{Served, Update, WriteOptions};
use crate::status::ApiResult;

pub(super) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    match call.info.verb {
        "get" => crate::api::get::serve(call, served, accept).await,
        "patch" => {
            let kind = PatchKind::of(call, served)?;
            let options = WriteOptions::parse(kind.options_kind(), call.query, &call.parts.headers)?;
            let bytes = body::read(body).await?;
            let options_value = options.to_value("PatchOptions");
            let context = call.write_context(served, &options, &options_value);
            serve_patch(call, served, accept, &context, kind, &bytes).await
        }
        _ => {
            let options = WriteOptions::parse(OptionsKind::Update, call.query, &call.parts.headers)?;
            let object = crate::api::create::decode_object(call, served, &options, body).await?;
            crate::api::update::check_name(&object, &call.info.name)?;
            let options_value = options.to_value("UpdateOptions");
            let context = call.write_context(served, &options, &options_value);
            let transform = |_: Option<&Value>| Ok(object.clone());
            let update = Update { transform: &transform, fields_tracked: false, force_create: false };
            let updated = context.update(&update).await?;
            crate::api::render::saved(call, served, accept, 200, updated.saved).await
        }
    }
}
