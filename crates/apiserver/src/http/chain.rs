//! The way of every request: who, how many, may they, and what then.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use base::UserInfo;
use futures::FutureExt;
use http::request::Parts;
use http::{HeaderValue, Response};
use http_body::Body as _;

use super::body::{Body, full, read};
use super::negotiate::accept_for_error;
use super::{gzip, respond};
use crate::api::{self, Call};
use crate::audit::{self, Record, Stage};
use crate::authn::impersonation::impersonate;
use crate::authz::{Attributes, Decision, forbidden};
use crate::core::Core;
use crate::metrics::families;
use crate::registry::Warnings;
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
    let id = if in_process && core.audit.is_none() { String::new() } else { audit::request_id(&parts) };
    let timer = core.metrics.start(&info, &parts);
    let record = OnceLock::new();
    let served =
        AssertUnwindSafe(guarded(&core, &parts, &info, &query, body, (&id, &record))).catch_unwind().await;
    let mut response = match served {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => respond::error(&error, accept_for_error(&parts.headers, &query)),
        Err(_) => {
            tracing::error!(path = %parts.uri.path(), "panic while serving a request");
            if let Some(record) = record.get() {
                record.stage(Stage::Panic);
            }
            let words = "This request caused apiserver to panic. Look in the logs for details.";
            respond::error(&ApiError::internal_plain(words), accept_for_error(&parts.headers, &query))
        }
    };
    timer.finish(&info, response.status().as_u16(), response.body().size_hint().exact());
    if in_process {
        return response;
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
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
    (id, slot): (&str, &OnceLock<Arc<Record>>),
) -> ApiResult<Response<Body>> {
    if parts.uri.path_and_query().is_some_and(|p| p.as_str().len() > MAX_URI_BYTES) {
        return Err(ApiError::new(414, "RequestURITooLong", "request URI too long"));
    }
    let identified = identify(core, parts).await;
    let Some(auditor) = &core.audit else {
        return authorized(core, parts, info, query, identified?, body, None).await;
    };
    let Some(record) = auditor.begin(parts, info, identified.as_ref().ok(), id) else {
        return authorized(core, parts, info, query, identified?, body, None).await;
    };
    let _ = slot.set(record.clone());
    let outcome = match identified {
        Err(error) => Err(error),
        Ok(_) if !record.stage(Stage::RequestReceived) => {
            return Err(ApiError::internal("unable to audit the request"));
        }
        Ok(user) => authorized(core, parts, info, query, user, body, Some(&record)).await,
    };
    let response = match outcome {
        Ok(response) => response,
        Err(error) => respond::error(&error, accept_for_error(&parts.headers, query)),
    };
    Ok(record.respond(response, info.is_long_running()).await)
}

/// What comes after it is known who asks: `real`, before impersonation.
///
/// The bound is said here because the compiler cannot find it out through this function's callers.
#[allow(clippy::manual_async_fn)]
fn authorized<'a>(
    core: &'a Arc<Core>,
    parts: &'a Parts,
    info: &'a RequestInfo,
    query: &'a Query,
    real: UserInfo,
    mut body: Body,
    record: Option<&'a Arc<Record>>,
) -> impl Future<Output = ApiResult<Response<Body>>> + Send + 'a {
    async move {
        let user = match impersonate(&parts.headers, &real, &*core.authorizer).await? {
            Some(user) => {
                if let Some(record) = record {
                    record.impersonated(&user);
                }
                user
            }
            None => real,
        };
        let slot = match core.flow.enter(&core.registry, info, &user, query).await {
            Ok(slot) => slot,
            Err(rejected) => {
                let accept = accept_for_error(&parts.headers, query);
                let mut response = respond::error(&rejected.error, accept);
                rejected.class.label(&mut response);
                return Ok(response);
            }
        };
        let mut attributes = Attributes::of(&user, info);
        if matches!(info.verb, "list" | "watch" | "deletecollection") {
            attributes.field_selector = query.get("fieldSelector").map(str::to_owned);
            attributes.label_selector = query.get("labelSelector").map(str::to_owned);
        }
        let since = Instant::now();
        let decision = core.authorizer.authorize(&attributes).await;
        let result = match &decision {
            Decision::Allow(_) => "allowed",
            Decision::Deny(_) => "denied",
            _ => "no-opinion",
        };
        families::AUTHORIZATION_ATTEMPTS.count(&[result]);
        families::AUTHORIZATION_DURATION.took(&[result], since.elapsed());
        if let Some(record) = record {
            record.authorized(&decision);
        }
        if !decision.is_allowed() {
            return Err(forbidden(&attributes, &decision));
        }
        let wants_body = record.is_some_and(|record| record.capture().request) && !info.is_long_running();
        if let (Some(record), true) = (record, wants_body) {
            let bytes = within(core, read(body)).await?;
            if let Some(object) = audit::decode_body(&parts.headers, &bytes) {
                record.request_object(object);
            }
            body = full(bytes);
        }
        let warnings = Warnings::default();
        let call = Call { core, parts, info, query, user: &user, warnings: &warnings };
        let outcome = if info.is_long_running() {
            api::serve(&call, body).await
        } else {
            within(core, api::serve(&call, body)).await
        };
        let class = slot.class.clone();
        drop(slot);
        let mut response = match outcome {
            Ok(response) => response,
            Err(error) => respond::error(&error, accept_for_error(&parts.headers, query)),
        };
        class.label(&mut response);
        if let Some(record) = record {
            warnings.take_annotations().iter().for_each(|(key, text)| record.annotate(key, text));
        }
        respond::add_warnings(&mut response, warnings.take());
        Ok(response)
    }
}

/// Waits for `work` as long as a request may take (`--request-timeout`).
async fn within<T>(core: &Core, work: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
    let limit = Duration::from_secs(core.options.request_timeout_s.max(1));
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ApiError::timeout("request did not complete within the allowed duration", 1)),
    }
}

async fn identify(core: &Core, parts: &Parts) -> ApiResult<UserInfo> {
    if let Some(user) = parts.extensions.get::<UserInfo>() {
        return Ok(user.clone());
    }
    let since = Instant::now();
    let user = core.authn.authenticate(parts).await;
    let result = if user.is_some() { "success" } else { "failure" };
    families::AUTHENTICATION_ATTEMPTS.count(&[result]);
    families::AUTHENTICATION_DURATION.took(&[result], since.elapsed());
    let user = user.ok_or_else(ApiError::unauthorized)?;
    // As upstream, which tells few names apart.
    let name = match user.name.as_str() {
        name @ ("admin"
        | "client"
        | "kube_proxy"
        | "kubelet"
        | "system:serviceaccount:kube-system:default") => name,
        name if name.contains('@') => "email_id",
        _ => "other",
    };
    families::AUTHENTICATED_REQUESTS.count(&[name]);
    Ok(user)
}
