//! Requests that the process around the API server answers itself.
//!
//! They pass authentication, flow control and authorization like all others, as paths that name no resource.

use async_trait::async_trait;
use base::UserInfo;
use http::Response;

use crate::api::Call;
use crate::http::{Body, respond};
use crate::status::{ApiError, ApiResult};

/// Answers requests to a path of its own and to those below it.
#[async_trait]
pub trait Extension: Send + Sync + 'static {
    /// Answers a POST to `path` by `user`, who may do so, with JSON.
    async fn post(&self, user: &UserInfo, path: &str, body: &[u8]) -> ApiResult<serde_json::Value>;
}

/// An extension in its place.
pub struct Mounted {
    /// The path, without a slash at its end.
    pub path: &'static str,
    /// What answers there.
    pub extension: std::sync::Arc<dyn Extension>,
}

impl Mounted {
    /// Whether `path` is its path or below that.
    pub(crate) fn has(&self, path: &str) -> bool {
        path.strip_prefix(self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    pub(crate) async fn serve(&self, call: &Call<'_>, body: Body) -> ApiResult<Response<Body>> {
        if call.parts.method != http::Method::POST {
            return Err(ApiError::method_not_allowed());
        }
        let body = crate::http::body::read(body).await?;
        Ok(respond::json(200, &self.extension.post(call.user, &call.info.path, &body).await?))
    }
}
