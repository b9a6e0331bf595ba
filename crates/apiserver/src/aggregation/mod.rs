//! API services: one object for every group and version, and whether it can be had.
//!
//! Those served by this process are kept here and are always available. Those behind a service are probed, requests
//! for them are passed on as the user who asks, and what they serve is part of discovery.

mod controller;
mod desired;
mod merge;
mod pass;
mod probe;
mod remote;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use schema::Value;
use tokio::sync::Notify;

pub(crate) use controller::run;
pub(crate) use merge::{add_to_group_list, add_to_groups, group_document, openapi_index};
pub(crate) use pass::serve;
pub use remote::Remote;

/// Group and version.
type Name = (String, String);

/// Groups and versions that other servers serve.
#[derive(Default)]
pub struct Aggregation {
    remote: ArcSwap<BTreeMap<Name, Arc<Remote>>>,
    /// What they said they serve: versions of aggregated discovery.
    served: ArcSwap<BTreeMap<Name, Served>>,
    /// Told when they should be probed.
    stale: Notify,
}

/// What a remote server said of one version.
#[derive(Debug, Clone, Default)]
pub struct Served {
    /// `resources` of aggregated discovery.
    pub resources: Value,
    /// Where its OpenAPI v3 document is, with its hash.
    pub openapi: Option<String>,
}

impl Aggregation {
    /// True if this process serves everything.
    pub fn is_empty(&self) -> bool {
        self.remote.load().is_empty()
    }

    /// Who serves that path, if another server does.
    pub fn route(&self, path: &str) -> Option<Arc<Remote>> {
        let remote = self.remote.load();
        if remote.is_empty() {
            return None;
        }
        let path = path.strip_prefix("/openapi/v3").unwrap_or(path);
        let mut parts = path.strip_prefix("/apis/")?.split('/');
        let name = (parts.next()?.to_owned(), parts.next().filter(|v| !v.is_empty())?.to_owned());
        remote.get(&name).cloned()
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Remote>> {
        self.remote.load().values().cloned().collect()
    }

    fn set(&self, remote: BTreeMap<Name, Arc<Remote>>) {
        let before = self.remote.load();
        let same = before.len() == remote.len()
            && before.iter().zip(&remote).all(|(a, b)| a.0 == b.0 && a.1.source == b.1.source);
        self.remote.store(Arc::new(remote));
        if !same {
            self.stale.notify_one();
        }
    }
}
