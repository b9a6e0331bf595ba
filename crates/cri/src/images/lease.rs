//! Keeps what a pull or import has fetched so far from being collected as garbage.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::digest::Digest;

/// All leases of a node.
#[derive(Default, Clone)]
pub struct Leases {
    held: Arc<Mutex<BTreeMap<u64, BTreeSet<Digest>>>>,
}

/// Digests of blobs and layers that must not be removed; ends when dropped.
pub struct Lease {
    all: Leases,
    id: u64,
}

impl Leases {
    /// A new lease that holds nothing yet.
    pub fn begin(&self) -> Lease {
        let mut held = self.held.lock();
        let id = held.last_key_value().map_or(0, |(id, _)| id + 1);
        held.insert(id, BTreeSet::new());
        Lease { all: self.clone(), id }
    }

    /// Everything that is held.
    pub fn digests(&self) -> BTreeSet<Digest> {
        self.held.lock().values().flatten().cloned().collect()
    }
}

impl Lease {
    /// Holds these, too. To be called before looking whether they are there.
    pub fn hold<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) {
        if let Some(held) = self.all.held.lock().get_mut(&self.id) {
            held.extend(digests.into_iter().cloned());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.all.held.lock().remove(&self.id);
    }
}
