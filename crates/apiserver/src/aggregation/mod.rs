//! API services: one object for every group and version, and whether it can be had.
//!
//! Those served by this process are kept here and are always available. Those behind a service are listed with their
//! availability; requests to them answer 503, since passing them on is not implemented.

mod controller;
mod desired;

use std::collections::BTreeMap;

use arc_swap::ArcSwap;

pub(crate) use controller::run;

/// Groups and versions that other servers serve.
#[derive(Debug, Default)]
pub struct Aggregation {
    remote: ArcSwap<BTreeMap<(String, String), String>>,
}

impl Aggregation {
    /// The API service by which another server serves that group and version.
    pub fn remote(&self, group: &str, version: &str) -> Option<String> {
        self.remote.load().get(&(group.to_owned(), version.to_owned())).cloned()
    }

    fn set(&self, remote: BTreeMap<(String, String), String>) {
        self.remote.store(std::sync::Arc::new(remote));
    }
}
