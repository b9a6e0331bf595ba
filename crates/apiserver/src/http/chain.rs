//! The way of every request: who, how many, may they, and what then.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use base::UserInfo;
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderValue, Response};

use super::body::Body;
use super::negotiate::accept_for_error;
use super::{gzip, respond};
use crate::api::{self, Call};
use crate::authn::impersonation::impersonate;
use crate::authz::{Attributes, forbidden};
use crate::core::Core;
use crate::registry::{Warnings, meta};
use crate::request::{Query, RequestInfo};
use crate::status::{ApiError, ApiResult};

/// Longest path with query, in bytes.
const MAX_URI_BYTES: usize = 64 * 1024;

/// Serves one request; never fails.
pub(crate) async fn handle(core: Arc<Core>, request: http::Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let info = RequestInfo::parse(&parts.method, parts.uri.path(), &query);
    let in_process = parts.extensions.get::<UserInfo>().is_some();
    let timer = core.metrics.start(&info);
    let served = AssertUnwindSafe(guarded(&core, &parts, &info, &query, body)).catch_unwind().await;
    let mut response = match served {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => respond::error(&error, accept_for_error(&parts.headers, &query)),
        Err(_) => {
            tracing::error!(path = %parts.uri.path(), "panic while serving a request");
            let words = "This request caused apiserver to panic. Look in the logs for details.";
            respond::error(&ApiError::internal_plain(words), accept_for_error(&parts.headers, &query))
        }
    };
    timer.finish(&info, response.status().as_u16());
    if in_process {
        return response;
    }
    if let Ok(id) = HeaderValue::from_str(&meta::new_uid()) {
        response.headers_mut().entry("audit-id").or_insert(id);
    }
    response
        .headers_mut()
        .entry(http::header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-cache, private"));
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS || info.verb == "watch" {
        return response;
    }
    gzip::compress(&parts.headers, response)
}

async fn guarded(
    core: &Arc<Core>,
    parts: &Parts,
    info: &RequestInfo,
    query: &Query,
    body: Body,
) -> ApiResult<Response<Body>> {
    if parts.uri.path_and_query().is_some_and(|p| p.as_str().len() > MAX_URI_BYTES) {
        return Err(ApiError::new(414, "RequestURITooLong", "request URI too long"));
    }
    let real = identify(core, parts).await?;
    let user = impersonate(&parts.headers, &real, &*core.authorizer).await?.unwrap_or(real);
    let slot = core.flow.enter(info).await?;
    let mut attributes = Attributes::of(&user, info);
    if matches!(info.verb, "list" | "watch" | "deletecollection") {
        attributes.field_selector = query.get("fieldSelector").map(str::to_owned);
        attributes.label_selector = query.get("labelSelector").map(str::to_owned);
    }
    let decision = core.authorizer.authorize(&attributes).await;
    if !decision.is_allowed() {
        return Err(forbidden(&attributes, &decision));
    }
    let warnings = Warnings::default();
    let call = Call { core, parts, info, query, user: &user, warnings: &warnings };
    let outcome = if info.is_long_running() {
        api::serve(&call, body).await
    } else {
        let limit = Duration::from_secs(core.options.request_timeout_s.max(1));
        match tokio::time::timeout(limit, api::serve(&call, body)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ApiError::timeout("request did not complete within the allowed duration", 1)),
        }
    };
    drop(slot);
    let mut response = match outcome {
        Ok(response) => response,
        Err(error) => respond::error(&error, accept_for_error(&parts.headers, query)),
    };
    respond::add_warnings(&mut response, warnings.take());
    Ok(response)
}

async fn identify(core: &Core, parts: &Parts) -> ApiResult<UserInfo> {
    if let Some(user) = parts.extensions.get::<UserInfo>() {
        return Ok(user.clone());
    }
    core.authn.authenticate(parts).await.ok_or_else(ApiError::unauthorized)
}
