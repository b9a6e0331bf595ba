//! What readers see: the newest state, the history, and the watchers. One writer publishes; nothing here waits.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::history::{Change, History, Map, Piece, Undo};
use crate::hub::{Hub, Subscription};
use crate::state::State;
use crate::{Entry, Error, KeyRange, RangeOptions, RangeResult, Revision, WatchOptions, Watcher};

/// See the module.
pub(crate) struct Keyspace {
    state: ArcSwap<State>,
    history: RwLock<History>,
    pub(crate) hub: Hub,
    revision: watch::Sender<Revision>,
}

impl Keyspace {
    /// A keyspace at `state`, with the changes that led there as far as they are known: all after `known_from`.
    pub(crate) fn new(state: State, history: History) -> Arc<Self> {
        let hub = Hub::default();
        hub.start_at(state.revision);
        let revision = watch::Sender::new(state.revision);
        Arc::new(Self { state: ArcSwap::from_pointee(state), history: RwLock::new(history), hub, revision })
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Shows a new state to readers, then the changes that made it to watchers.
    pub(crate) fn publish(&self, state: State, changes: &[Change], now: Instant) {
        let revision = state.revision;
        {
            let mut history = self.history.write();
            history.push(changes, &state.map, now);
            self.state.store(Arc::new(state));
        }
        self.revision.send_replace(revision);
    }

    /// Shows a state to which no known changes lead; everything before it can no longer be read or watched.
    pub(crate) fn replace(&self, state: State) {
        let revision = state.revision;
        {
            let mut history = self.history.write();
            history.compact(revision);
            self.state.store(Arc::new(state));
        }
        self.revision.send_replace(revision);
        self.hub.skip_to(revision);
    }

    /// Hands changes that were published to the watchers.
    pub(crate) fn notify(&self, changes: &[Change], reached: Revision) {
        self.hub.dispatch(changes, reached);
    }

    /// Goes on at `revision`, with nothing known about what led there: live watchers are cut from the changes.
    pub(crate) fn restart(&self, revision: Revision) {
        self.hub.cut_all(revision);
    }

    pub(crate) fn compact(&self, revision: Revision) {
        self.history.write().compact(revision);
    }

    pub(crate) fn compact_revision(&self) -> Revision {
        self.history.read().compacted()
    }

    /// Bytes of keys and values that only the history still holds.
    pub(crate) fn history_bytes(&self) -> usize {
        self.history.read().bytes()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.state.load().map.get(key).cloned()
    }

    pub(crate) fn range(&self, range: &KeyRange, options: RangeOptions) -> Result<RangeResult, Error> {
        let state = self.state.load_full();
        if options.revision.is_zero() || options.revision == state.revision {
            return Ok(read(&state.map, range, options, state.revision));
        }
        if options.revision > state.revision {
            return Err(Error::FutureRevision { current: state.revision });
        }
        let (map, undo) = self.history.read().at(range, options.revision, (state.revision, &state.map))?;
        Ok(collect(options, state.revision, older(&map, &undo, range)))
    }

    pub(crate) fn watch(
        keyspace: &Arc<Self>,
        range: KeyRange,
        options: WatchOptions,
    ) -> Result<Watcher, Error> {
        let start = if options.start_revision.is_zero() {
            keyspace.state.load().revision.next()
        } else {
            keyspace.history.read().check_start(options.start_revision)?;
            options.start_revision
        };
        let mut watcher = Watcher::new(keyspace.clone(), range, start, options.progress);
        watcher.join();
        Ok(watcher)
    }

    pub(crate) fn subscribe(
        keyspace: &Arc<Self>,
        range: &KeyRange,
        next: Revision,
    ) -> Result<Subscription, Revision> {
        Hub::subscribe(keyspace, range, next)
    }

    pub(crate) fn replay(
        &self,
        range: &KeyRange,
        from: Revision,
        upto: Revision,
        max_events: usize,
    ) -> Result<Piece, Error> {
        self.history.read().replay(range, from, upto, max_events)
    }

    /// Returns once readers see `revision`.
    pub(crate) async fn wait_for(&self, revision: Revision) -> Result<(), Error> {
        let mut reached = self.revision.subscribe();
        reached.wait_for(|at| *at >= revision).await.map(|_| ()).map_err(|_| Error::Closed)
    }
}

/// The entries of a range, in key order.
pub(crate) fn entries<'m>(map: &'m Map, range: &KeyRange) -> impl Iterator<Item = &'m Arc<Entry>> {
    let one = range.as_single().map(|key| map.get(key));
    let many = (one.is_none() && !range.is_empty())
        .then(|| map.range::<(Bound<&[u8]>, Bound<&[u8]>), [u8]>(range.bounds()).map(|(_, entry)| entry));
    one.flatten().into_iter().chain(many.into_iter().flatten())
}

/// Reads a range from a map.
pub(crate) fn read(map: &Map, range: &KeyRange, options: RangeOptions, revision: Revision) -> RangeResult {
    collect(options, revision, entries(map, range))
}

fn collect<'m>(
    options: RangeOptions,
    revision: Revision,
    found: impl Iterator<Item = &'m Arc<Entry>>,
) -> RangeResult {
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let mut result = RangeResult { revision, ..RangeResult::default() };
    for entry in found {
        result.count += 1;
        if !options.count_only && result.count <= limit {
            result.entries.push(entry.clone());
        }
    }
    result.more = !options.count_only && result.count > limit;
    result
}

/// The entries of a range in a newer map, with what came after an older revision undone.
fn older<'m>(map: &'m Map, undo: &'m Undo, range: &KeyRange) -> impl Iterator<Item = &'m Arc<Entry>> {
    let mut new = entries(map, range).peekable();
    let mut old = undo.iter().peekable();
    std::iter::from_fn(move || {
        loop {
            match (new.peek(), old.peek()) {
                (Some(entry), Some((key, _))) if entry.key < **key => return new.next(),
                (Some(_), None) => return new.next(),
                (None, None) => return None,
                (entry, Some((key, _))) => {
                    let same = entry.is_some_and(|entry| entry.key == **key);
                    if same {
                        new.next();
                    }
                    if let Some(entry) = old.next().and_then(|(_, entry)| entry.as_ref()) {
                        return Some(entry);
                    }
                }
            }
        }
    })
}
