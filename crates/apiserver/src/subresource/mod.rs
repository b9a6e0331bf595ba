//! Subresources other than status: scale, binding, eviction, token, approval, finalize, and those that connect.

mod token;

use std::sync::Arc;

use http::Response;

use crate::api::Call;
use crate::http::Body;
use crate::http::negotiate::Accept;
use crate::registry::Served;
use crate::request::RequestInfo;
use crate::status::{ApiError, ApiResult};

pub use token::{IssuedToken, TokenClaims, TokenIssuer};

/// Subresources that connect the client to something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connect {
    /// pods/log
    Log,
}

/// How this request connects, if it does.
pub fn connect(served: &Served, info: &RequestInfo) -> Option<Connect> {
    let _ = (served, info);
    None
}

/// Connects.
pub async fn serve_connect(
    call: &Call<'_>,
    served: &Arc<Served>,
    connect: Connect,
    body: Body,
) -> ApiResult<Response<Body>> {
    let _ = (call, served, connect, body);
    Err(ApiError::not_implemented("connecting subresources"))
}

/// Serves a subresource that reads or writes objects.
pub async fn serve(
    call: &Call<'_>,
    served: &Arc<Served>,
    accept: Accept,
    body: Body,
) -> ApiResult<Response<Body>> {
    let _ = (served, accept, body);
    Err(ApiError::not_implemented(&format!("subresource {}", call.info.subresource)))
}
