//! One state of the keyspace, and the two ways in which a key changes.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use crate::history::Map;
use crate::lease::Leases;
use crate::{Entry, Event, EventKind, Key, LeaseId, Memo, Revision, Setting};

/// A state. A clone is cheap and shares everything.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) revision: Revision,
    pub(crate) map: Map,
    /// Keys and values together.
    pub(crate) bytes: usize,
    pub(crate) leases: Leases,
    /// Small values beside the keyspace, see [`Setting`].
    pub(crate) settings: OrdMap<Key, Setting>,
}

impl State {
    /// Writes a key at `revision`.
    pub(crate) fn put(
        &mut self,
        key: Key,
        value: Bytes,
        lease: LeaseId,
        revision: Revision,
        memo: Option<Memo>,
    ) -> Event {
        let prev = self.map.get(&key).cloned();
        let (create, version) =
            prev.as_ref().map_or((revision, 1), |prev| (prev.create_revision, prev.version + 1));
        let old_lease = prev.as_ref().map_or(LeaseId::NONE, |prev| prev.lease);
        if old_lease != lease {
            self.leases.detach(old_lease, &key);
            self.leases.attach(lease, &key);
        }
        // The key that the map holds already is shared on.
        let key = prev.as_ref().map_or(key, |prev| prev.key.clone());
        let entry = Arc::new(Entry::new(key.clone(), value, (create, revision, version), lease));
        if let Some(memo) = memo {
            entry.set_memo(memo);
        }
        self.bytes = self.bytes + entry.size() - prev.as_ref().map_or(0, |prev| prev.size());
        self.map.insert(key, entry.clone());
        Event { kind: EventKind::Put, entry, prev }
    }

    /// Deletes a key at `revision`, if it is there.
    pub(crate) fn delete(&mut self, key: &[u8], revision: Revision) -> Option<Event> {
        let prev = self.map.remove(key)?;
        self.bytes -= prev.size();
        if !prev.lease.is_none() {
            self.leases.detach(prev.lease, &prev.key);
        }
        let at = (Revision::ZERO, revision, 0);
        let entry = Arc::new(Entry::new(prev.key.clone(), Bytes::new(), at, LeaseId::NONE));
        Some(Event { kind: EventKind::Delete, entry, prev: Some(prev) })
    }

    /// Brings back an entry as a snapshot has it.
    pub(crate) fn restore(&mut self, entry: Entry) {
        self.bytes += entry.size();
        if !entry.lease.is_none() {
            self.leases.attach(entry.lease, &entry.key);
        }
        self.map.insert(entry.key.clone(), Arc::new(entry));
    }
}
