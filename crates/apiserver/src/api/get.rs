//! GET of one object.

use std::sync::Arc;

use http::Response;

use super::{Call, render};
use crate::http::Body;
use crate::http::negotiate::Accept;
use crate::registry::Served;
use crate::status::ApiResult;

pub(crate) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
) -> ApiResult<Response<Body>> {
    let version = call.query.get("resourceVersion").unwrap_or_default();
    let entry = call.core.registry.get(served, call.namespace(served), &call.info.name, version).await?;
    render::entry(call, served, accept, &entry).await
}
