//! Kinds that are questions and are stored nowhere: reviews of tokens and access.

use std::sync::Arc;

use http::Response;

use super::Call;
use crate::http::Body;
use crate::http::negotiate::Accept;
use crate::registry::Served;
use crate::status::{ApiError, ApiResult};

/// True for resources that are answered here.
pub(super) fn is_virtual(served: &Served, subresource: &str) -> bool {
    subresource.is_empty()
        && matches!(
            (served.resource.group.as_str(), served.resource.plural.as_str()),
            ("authentication.k8s.io" | "authorization.k8s.io", _) | ("", "bindings" | "componentstatuses")
        )
}

pub(super) async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    let _ = (call, accept, body);
    Err(ApiError::not_implemented(&served.resource.kind))
}
