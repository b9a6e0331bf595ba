//! `/openapi/v2` and `/openapi/v3`.

use http::Response;

use crate::api::Call;
use crate::http::{Body, respond};
use crate::status::ApiResult;

/// Serves the document at `/openapi/PATH`.
pub(crate) fn serve(call: &Call<'_>, path: &str) -> ApiResult<Response<Body>> {
    let _ = (call, path);
    Ok(respond::page_not_found())
}
