//! Whether a cache has what we wrote: for objects whose names the server makes up, so that writing from a stale cache
//! would make them twice.

use std::collections::HashMap;

use client::{Cache, Kind, ObjectKey};
use kube::core::ObjectMeta;
use parking_lot::Mutex;

/// The newest states that were written, by the key of whose they are.
#[derive(Debug, Default)]
pub struct Written {
    keys: Mutex<HashMap<ObjectKey, HashMap<ObjectKey, Wanted>>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Wanted {
    /// At this resourceVersion or later.
    Version(u64),
    /// Gone, or replaced by another than the one with this uid.
    Gone(String),
}

impl Written {
    /// Remembers the state that the server answered to a write.
    pub fn wrote(&self, owner: &ObjectKey, meta: &ObjectMeta) {
        // Servers whose versions are not numbers cannot be compared; they then are not waited for.
        let Some(version) = meta.resource_version.as_ref().and_then(|v| v.parse().ok()) else { return };
        self.keys.lock().entry(owner.clone()).or_default().insert(key(meta), Wanted::Version(version));
    }

    /// Remembers a deletion.
    pub fn deleted(&self, owner: &ObjectKey, meta: &ObjectMeta) {
        let uid = meta.uid.clone().unwrap_or_default();
        self.keys.lock().entry(owner.clone()).or_default().insert(key(meta), Wanted::Gone(uid));
    }

    /// True if `cache` shows all that was written for `owner`. What it shows is forgotten.
    pub fn is_seen<K: Kind>(&self, owner: &ObjectKey, cache: &Cache<K>) -> bool {
        let mut keys = self.keys.lock();
        let Some(wanted) = keys.get_mut(owner) else { return true };
        wanted.retain(|key, wanted| !is_satisfied(cache.get_key(key).as_deref(), wanted));
        let seen = wanted.is_empty();
        if seen {
            keys.remove(owner);
        }
        seen
    }

    /// Forgets an object that was seen going: someone deleted what we wrote.
    pub fn gone(&self, owner: &ObjectKey, meta: &ObjectMeta) {
        if let Some(wanted) = self.keys.lock().get_mut(owner) {
            wanted.remove(&key(meta));
        }
    }

    /// Forgets all of an owner that is gone.
    pub fn forget(&self, owner: &ObjectKey) {
        self.keys.lock().remove(owner);
    }
}

fn is_satisfied<K: Kind>(cached: Option<&K>, wanted: &Wanted) -> bool {
    match wanted {
        Wanted::Version(wanted) => cached
            .and_then(|c| c.meta().resource_version.as_ref()?.parse::<u64>().ok())
            .is_some_and(|version| version >= *wanted),
        Wanted::Gone(uid) => cached.is_none_or(|c| c.meta().uid.as_ref() != Some(uid)),
    }
}

fn key(meta: &ObjectMeta) -> ObjectKey {
    ObjectKey { namespace: meta.namespace.clone(), name: meta.name.clone().unwrap_or_default() }
}
