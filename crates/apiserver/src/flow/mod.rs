//! API priority and fairness (KEP-1040): which requests are served at once, which wait, and which are refused.
//!
//! A FlowSchema says to which priority level and flow a request belongs ([`classify`]). A level has seats; without a
//! free one a request waits in one of its queues, chosen by shuffle sharding, and the queues are served fairly by the
//! seat-seconds they used ([`level`]). Seats that a level does not use are lent to others ([`borrowing`]).

mod borrowing;
mod classify;
mod config;
mod dealer;
mod debug;
mod fair;
mod level;
mod maintain;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base::UserInfo;
use http::{HeaderName, HeaderValue, Response};
use schema::Value;
use store::{KeyRange, RangeOptions};

use self::config::Config;
use self::level::{Level, Permit, Refusal};
use crate::http::Body;
use crate::registry::Registry;
use crate::request::{Query, RequestInfo};
use crate::status::ApiError;

pub use debug::is_dump;
pub use maintain::run;

/// Group of the kinds.
const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Objects that a list goes through per seat (`objectsPerSeat`).
const OBJECTS_PER_SEAT: usize = 100;
/// Seats of one request at most (`maximumSeatsLimit`).
const MAX_SEATS: u32 = 10;
/// Of the time that a request may take, the part for which it may wait.
const WAIT_PART: u32 = 4;
const SCHEMA_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_HEADER: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// All levels and how requests come to them. Replaced as a whole when the objects change.
pub struct FlowControl {
    config: ArcSwap<Config>,
    /// Seats of all levels together.
    seats: u32,
    longest_wait: Duration,
}

/// What a request was found to be.
#[derive(Debug, Clone)]
pub struct Class {
    schema_uid: Arc<str>,
    level_uid: Arc<str>,
}

impl Class {
    /// Tells the client where its request was put.
    pub fn label(&self, response: &mut Response<Body>) {
        for (name, uid) in [(SCHEMA_HEADER, &self.schema_uid), (LEVEL_HEADER, &self.level_uid)] {
            if let Ok(uid) = HeaderValue::from_str(uid) {
                response.headers_mut().insert(name, uid);
            }
        }
    }
}

/// Admitted: the seats are free again when this is dropped.
pub struct Slot {
    /// For the response.
    pub class: Class,
    _permit: Option<Permit>,
}

/// Refused.
pub struct Rejected {
    /// For the response.
    pub class: Class,
    /// What the client is told.
    pub error: ApiError,
}

impl FlowControl {
    /// With that many seats, shared by levels; requests may take `request_timeout`. Until [`run`] has read the objects
    /// there are the two mandatory levels.
    pub fn new(reads: usize, writes: usize, request_timeout: Duration) -> Self {
        let seats = u32::try_from(reads.saturating_add(writes)).unwrap_or(u32::MAX).max(1);
        let config = ArcSwap::from_pointee(Config::mandatory(seats));
        Self { config, seats, longest_wait: request_timeout / WAIT_PART }
    }

    /// Waits for the seats that a request takes. Long-running requests are classified and take none.
    pub async fn enter(
        &self,
        registry: &Registry,
        info: &RequestInfo,
        user: &UserInfo,
        query: &Query,
    ) -> Result<Slot, Box<Rejected>> {
        let config = self.config.load_full();
        let found = classify::find(&config, info, user);
        let class = Class { schema_uid: found.schema.uid.clone(), level_uid: found.level.uid.clone() };
        if info.is_long_running() {
            return Ok(Slot { class, _permit: None });
        }
        let seats = match info.verb {
            "list" if !found.level.is_exempt() => list_seats(registry, info, query).min(found.level.widest()),
            _ => 1,
        };
        let flow = found.flow();
        match Level::acquire(found.level, &found.schema.name, flow, seats, self.longest_wait).await {
            Ok(permit) => Ok(Slot { class, _permit: Some(permit) }),
            Err(refusal) => Err(Box::new(Rejected { class, error: refused(refusal) })),
        }
    }

    /// The text of one of the pages below `/debug/api_priority_and_fairness/`.
    pub fn dump(&self, page: &str) -> Option<String> {
        debug::dump(&self.config.load(), page)
    }

    /// Metrics in the text format.
    pub fn render_metrics(&self, out: &mut String) {
        metrics::render(&self.config.load(), out);
    }
}

fn refused(_: Refusal) -> ApiError {
    ApiError::too_many_requests("Too many requests, please try again later.", 1)
}

/// What a list costs by the objects it goes through.
fn list_seats(registry: &Registry, info: &RequestInfo, query: &Query) -> u32 {
    let Some(served) = registry.resource(&info.group, &info.version, &info.resource) else { return 1 };
    let namespace = (!info.namespace.is_empty()).then_some(info.namespace.as_str());
    let range = KeyRange::prefix(served.key_prefix(namespace));
    let count = registry.store.range(&range, RangeOptions { count_only: true, ..RangeOptions::default() });
    let count = count.map_or(0, |result| result.count);
    let selects = ["labelSelector", "fieldSelector"]
        .iter()
        .any(|name| query.get(name).is_some_and(|selector| !selector.is_empty()));
    let limit = query.get("limit").and_then(|limit| limit.parse::<usize>().ok()).filter(|limit| *limit > 0);
    let read = match limit {
        Some(limit) if !selects => count.min(limit),
        _ => count,
    };
    u32::try_from(read.div_ceil(OBJECTS_PER_SEAT)).unwrap_or(MAX_SEATS).clamp(1, MAX_SEATS)
}

/// Text at a dotted path, or nothing.
fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.str_at(path).unwrap_or_default()
}

#[cfg(test)]
mod tests;
