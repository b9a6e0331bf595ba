//! A keyspace that follows somebody else's: what a client of an external etcd keeps in memory.
//!
//! Whoever feeds it gives a whole state once, then every revision in order. Reads and watches are those of any store.

use std::sync::Arc;
use std::time::Instant;

use base::SharedClock;
use parking_lot::Mutex;

use crate::history::{Change, History};
use crate::keyspace::Keyspace;
use crate::state::State;
use crate::{
    Entry, Error, Event, EventKind, HistoryLimits, Key, KeyRange, RangeOptions, RangeResult, Revision,
    WatchOptions, Watcher,
};

/// A change as it is fed.
#[derive(Debug)]
pub enum Fed {
    /// A key was written; the entry has its revisions and version.
    Put(Entry),
    /// A key was deleted.
    Delete(Key),
}

/// See the module.
pub struct Mirror {
    keyspace: Arc<Keyspace>,
    /// The state that the next revision changes.
    state: Mutex<State>,
    clock: SharedClock,
}

impl Mirror {
    /// Empty, at revision zero, until [`Mirror::reset`] gives it a state.
    pub fn new(limits: HistoryLimits, clock: SharedClock) -> Self {
        let history = History::new(limits, Revision::ZERO);
        Self { keyspace: Keyspace::new(State::default(), history), state: Mutex::default(), clock }
    }

    /// Takes a whole state at `revision`, which is not below the current one. What happened in between is not known:
    /// watches that have not seen up to `revision` end with [`Error::Compacted`].
    pub fn reset(&self, entries: impl Iterator<Item = Entry>, revision: Revision) {
        let mut state = State { revision, ..State::default() };
        entries.for_each(|entry| state.restore(entry));
        let mut current = self.state.lock();
        *current = state.clone();
        self.keyspace.publish(state, &[], self.now());
        self.keyspace.compact(revision);
        self.keyspace.restart(revision);
    }

    /// What happened at `revision`, the next one in order; nothing, if it was outside of what is mirrored.
    pub fn feed(&self, revision: Revision, changes: Vec<Fed>) {
        let mut state = self.state.lock();
        if revision <= state.revision {
            return;
        }
        let events: Vec<Event> =
            changes.into_iter().filter_map(|change| apply(&mut state, change, revision)).collect();
        state.revision = revision;
        let change = (!events.is_empty()).then(|| Change { revision, events: events.into() });
        self.keyspace.publish(state.clone(), change.as_slice(), self.now());
        self.keyspace.notify(change.as_slice(), revision);
    }

    fn now(&self) -> Instant {
        self.clock.instant()
    }

    /// Ends all watches.
    pub fn close(&self) {
        self.keyspace.hub.close();
    }

    /// As [`crate::Store::range`].
    pub fn range(&self, range: &KeyRange, options: RangeOptions) -> Result<RangeResult, Error> {
        self.keyspace.range(range, options)
    }

    /// As [`crate::Store::get`].
    pub fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.keyspace.get(key)
    }

    /// As [`crate::Store::current_revision`].
    pub fn current_revision(&self) -> Revision {
        self.keyspace.state().revision
    }

    /// As [`crate::Store::compact_revision`].
    pub fn compact_revision(&self) -> Revision {
        self.keyspace.compact_revision()
    }

    /// Forgets the history up to `revision`.
    pub fn compact(&self, revision: Revision) {
        self.keyspace.compact(revision);
    }

    /// As [`crate::Store::watch`].
    pub fn watch(&self, range: KeyRange, options: WatchOptions) -> Result<Watcher, Error> {
        Keyspace::watch(&self.keyspace, range, options)
    }

    /// As [`crate::Store::wait_for`].
    pub async fn wait_for(&self, revision: Revision) -> Result<(), Error> {
        self.keyspace.wait_for(revision).await
    }
}

fn apply(state: &mut State, change: Fed, revision: Revision) -> Option<Event> {
    match change {
        Fed::Put(entry) => {
            let prev = state.map.get(&entry.key).cloned();
            state.bytes = state.bytes + entry.size() - prev.as_ref().map_or(0, |prev| prev.size());
            let entry = Arc::new(entry);
            state.map.insert(entry.key.clone(), entry.clone());
            Some(Event { kind: EventKind::Put, entry, prev })
        }
        Fed::Delete(key) => state.delete(&key, revision),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::LeaseId;

    fn entry(key: &str, create: u64, at: u64, version: u64) -> Entry {
        Entry::new(key.into(), Bytes::from_static(b"v"), (create.into(), at.into(), version), LeaseId(7))
    }

    #[tokio::test]
    async fn a_mirror_follows_and_says_where_it_missed_something() {
        let mirror = Mirror::new(HistoryLimits::default(), base::system_clock());
        mirror.reset([entry("a", 3, 5, 2), entry("b", 4, 4, 1)].into_iter(), Revision(9));
        let mut live = mirror.watch(KeyRange::all(), WatchOptions::default()).unwrap();
        mirror.feed(Revision(10), vec![Fed::Put(entry("a", 3, 10, 3)), Fed::Delete("b".into())]);
        mirror.feed(Revision(11), vec![]);
        mirror.feed(Revision(10), vec![Fed::Delete("a".into())]);
        let batch = live.next().await.unwrap();
        assert_eq!((batch.revision, batch.events.len()), (Revision(10), 2));
        assert_eq!(batch.events[0].prev.as_ref().unwrap().mod_revision, Revision(5));
        assert_eq!(mirror.get(b"a").unwrap().version, 3);
        mirror.wait_for(Revision(11)).await.unwrap();
        let old = RangeOptions { revision: Revision(9), ..RangeOptions::default() };
        assert_eq!(mirror.range(&KeyRange::all(), old).unwrap().entries.len(), 2);
        let start = WatchOptions { start_revision: Revision(11), ..WatchOptions::default() };
        let mut past = mirror.watch(KeyRange::single("a"), start).unwrap();
        mirror.reset([entry("c", 20, 20, 1)].into_iter(), Revision(20));
        for watcher in [&mut live, &mut past] {
            let ended = watcher.next().await;
            assert!(matches!(ended, Err(Error::Compacted { compact_revision: Revision(20) })), "{ended:?}");
        }
        let mut fresh = mirror.watch(KeyRange::all(), WatchOptions::default()).unwrap();
        mirror.feed(Revision(21), vec![Fed::Put(entry("c", 20, 21, 2))]);
        assert_eq!(fresh.next().await.unwrap().revision, Revision(21));
    }
}
