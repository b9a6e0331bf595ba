//! Objects over the store: one path for every kind, built in or custom.

mod continue_token;
mod convert;
mod create;
mod delete;
mod delete_collection;
mod filter;
mod follow;
mod leases;
pub mod list;
pub mod meta;
pub(crate) mod metadata_rules;
pub mod options;
mod own;
mod read;
mod riders;
mod served;
pub mod stored;
mod update;
pub mod watch;
#[cfg(test)]
mod watch_tests;
mod watched;
mod write;

use std::sync::Arc;

use arc_swap::ArcSwap;
use base::SharedClock;
use schema::{GroupVersionResource, Value};
use store::{Entry, KeyRange, RangeOptions, Revision, Store};

use crate::service::Addresses;
use crate::status::{ApiError, ApiResult, GroupResource};

pub use convert::{Conversion, Conversions, Converter, RemoteConversion, hub_equals};
pub use delete::Deleted;
pub use filter::Filter;
pub use follow::{Followed, Follower};
pub use list::{ListPage, ListRequest};
pub use own::Own;
pub use read::ObjectEvent;
pub use riders::Rider;
pub use served::{ResourceTable, Served};
pub use update::{Transform, Update};
pub use watched::Watched;
pub use write::{Saved, Warnings, WriteContext, WriteOptions, kind_of};

/// After how many seconds events expire unless the server is told otherwise (`--event-ttl`).
const DEFAULT_EVENT_TTL_S: i64 = 3600;

/// The objects of a cluster: the store, and the resources that say what is in it.
///
/// Requests come here after authorization and go through admission here. The `get`, `list` and `find` reads are for
/// the server's own parts (authorizers, admission plugins, allocators) and ask nobody.
pub struct Registry {
    /// Where objects are.
    pub store: Arc<dyn Store>,
    /// What is served; replaced as a whole when custom resources change.
    pub resources: ArcSwap<ResourceTable>,
    /// Told when they are.
    pub changed: tokio::sync::watch::Sender<u64>,
    /// Now.
    pub clock: SharedClock,
    /// What services have been given.
    pub addresses: Arc<Addresses>,
    /// How values are stored; `None`: as they are.
    pub encryption: Option<Arc<crate::encryption::Encryption>>,
    /// After how many seconds events expire.
    pub event_ttl_s: i64,
    /// Of objects that expire.
    pub(crate) leases: leases::Leases,
}

impl Registry {
    /// Over a store, with the built-in resources.
    pub fn new(store: Arc<dyn Store>, resources: ResourceTable, clock: SharedClock) -> Self {
        Self {
            store,
            resources: ArcSwap::from_pointee(resources),
            changed: tokio::sync::watch::Sender::new(0),
            clock,
            addresses: Arc::default(),
            encryption: None,
            event_ttl_s: DEFAULT_EVENT_TTL_S,
            leases: leases::Leases::default(),
        }
    }

    /// Serves other custom resources than before.
    pub fn set_resources(&self, table: ResourceTable) {
        self.resources.store(Arc::new(table));
        self.changed.send_modify(|count| *count += 1);
    }

    /// The resource of that group, version and plural name.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Served>> {
        self.resources.load().get(&GroupVersionResource::new(group, version, plural)).cloned()
    }

    /// The resource of that group and plural name in its storage version.
    pub fn stored_resource(&self, group: &str, plural: &str) -> Option<Arc<Served>> {
        self.resources.load().stored(group, plural).cloned()
    }

    /// The entry of an object.
    pub fn entry(&self, served: &Served, namespace: &str, name: &str) -> ApiResult<Option<Arc<Entry>>> {
        Ok(self.store.get(served.key(namespace, name).as_bytes())?)
    }

    /// An object in its storage version, decoded once and kept: for small kinds that are asked for often.
    pub fn find(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> ApiResult<Option<Arc<Value>>> {
        let Some(served) = self.stored_resource(group, plural) else { return Ok(None) };
        match self.entry(&served, namespace, name)? {
            Some(entry) => Ok(Some(stored::memo(&entry).decoded(&entry)?)),
            None => Ok(None),
        }
    }

    /// As [`Registry::find`]; an object that is not there is the error.
    pub fn require(&self, group: &str, plural: &str, namespace: &str, name: &str) -> ApiResult<Arc<Value>> {
        self.find(group, plural, namespace, name)?
            .ok_or_else(|| ApiError::not_found(GroupResource::new(group, plural), name))
    }

    /// All objects of a resource, or those of one namespace, as entries in key order.
    pub fn entries(&self, served: &Served, namespace: Option<&str>) -> ApiResult<Vec<Arc<Entry>>> {
        let range = KeyRange::prefix(served.key_prefix(namespace));
        Ok(self.store.range(&range, RangeOptions::default())?.entries)
    }

    /// All objects of a resource, or those of one namespace, decoded once and kept.
    pub fn find_all(&self, group: &str, plural: &str, namespace: Option<&str>) -> ApiResult<Vec<Arc<Value>>> {
        let Some(served) = self.stored_resource(group, plural) else { return Ok(Vec::new()) };
        let entries = self.entries(&served, namespace)?;
        entries.iter().map(|entry| stored::memo(entry).decoded(entry)).collect()
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.store.current_revision()
    }

    /// Now as `metav1.Time`.
    pub fn now(&self) -> String {
        meta::now(&*self.clock)
    }
}
