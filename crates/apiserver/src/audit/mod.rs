//! The audit log: what of which requests is kept (a [`Policy`]), and where it goes (a file, a webhook).

mod body;
mod event;
mod log;
mod policy;
mod record;
mod webhook;

use std::net::SocketAddr;
use std::sync::Arc;

use base::{TaskScope, UserInfo};
use http::request::Parts;

pub use body::decode as decode_body;
pub use event::Event;
pub use policy::{Level, Policy, Stage};
pub use record::Record;

use crate::options::AuditMode;
use crate::request::RequestInfo;
use crate::{Error, Options};

/// The address that a request came from; an extension of it.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub SocketAddr);

/// Longest audit id that is taken from a client, in bytes (`maxAuditIDLength`).
const MAX_ID: usize = 64;

/// Where events go.
pub trait Sink: Send + Sync + 'static {
    /// Takes one event. False if it is lost.
    fn emit(&self, event: &Arc<Event>) -> bool;
}

struct Backend {
    sink: Box<dyn Sink>,
    strict: bool,
}

/// Decides what is kept, and sends it to where it is kept.
pub struct Auditor {
    policy: Policy,
    backends: Vec<Backend>,
    truncate_bytes: Option<usize>,
}

impl Auditor {
    /// By the `--audit-*` flags; `None` if they ask for nothing.
    pub fn new(options: &Options, scope: &TaskScope) -> Result<Option<Arc<Self>>, Error> {
        let audit = &options.audit;
        let Some(file) = &audit.policy_file else { return Ok(None) };
        let policy = Policy::read(file)?;
        let mut backends = Vec::new();
        if let Some(path) = &audit.log_path {
            let sink = log::open(path, audit, scope)?;
            backends.push(Backend { sink, strict: audit.log_mode == AuditMode::BlockingStrict });
        }
        if let Some(file) = &audit.webhook_config_file {
            let sink = webhook::start(file, audit, scope)?;
            backends.push(Backend { sink, strict: audit.webhook_mode == AuditMode::BlockingStrict });
        }
        if backends.is_empty() {
            return Ok(None);
        }
        let truncate_bytes = audit.truncate_event_bytes;
        Ok(Some(Arc::new(Self { policy, backends, truncate_bytes })))
    }

    /// Begins the record of a request, if the policy wants one. `user` is who asks before any impersonation; `None`
    /// when nobody knows.
    pub fn begin(
        self: &Arc<Self>,
        parts: &Parts,
        info: &RequestInfo,
        user: Option<&UserInfo>,
        id: &str,
    ) -> Option<Arc<Record>> {
        let decision = self.policy.decide(user, info);
        if decision.level == Level::None {
            return None;
        }
        Some(Arc::new(Record::new(self.clone(), Event::of(parts, info, user, id, decision.level), decision)))
    }

    /// Sends one event. False if a request must be refused because of its loss.
    fn emit(&self, event: Event) -> bool {
        let mut event = event;
        if let Some(limit) = self.truncate_bytes
            && !event.fit(limit)
        {
            tracing::warn!(id = %event.id, "an audit event is too large and is dropped");
            return true;
        }
        let event = Arc::new(event);
        let mut kept = true;
        for backend in &self.backends {
            kept &= backend.sink.emit(&event) || !backend.strict;
        }
        kept
    }
}

/// The id of a request: as its sender gave it, or a new one.
pub fn request_id(parts: &Parts) -> String {
    let given = parts.headers.get("audit-id").and_then(|v| v.to_str().ok()).unwrap_or_default();
    if given.is_empty() || given.len() > MAX_ID { crate::registry::meta::new_uid() } else { given.to_owned() }
}
