//! The window of past changes: what watchers that start in the past read, and how an old state is had back.
//!
//! An old state is the newest one with the changes since undone. So that this stays cheap, a mark (a state that shares
//! almost everything with its neighbours) is kept every [`MARK_EVERY`] events.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use imbl::OrdMap;

use crate::hub::pick;
use crate::{Entry, Error, Event, Key, KeyRange, Revision, WatchBatch};

/// The newest entries by key.
pub(crate) type Map = OrdMap<Key, Arc<Entry>>;

/// Events between two marks.
const MARK_EVERY: usize = 1024;

/// How much of the past is kept. Whatever is beyond one of these is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Revisions.
    pub revisions: usize,
    /// Bytes of keys and values that only the history still holds.
    pub bytes: usize,
    /// Age. The default is the interval at which upstream's API server compacts etcd.
    pub age: Duration,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { revisions: 200_000, bytes: 64 << 20, age: Duration::from_secs(300) }
    }
}

/// What happened at one revision.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) revision: Revision,
    pub(crate) events: Arc<[Event]>,
}

struct Past {
    change: Change,
    at: Instant,
    /// Bytes that would be free without this change.
    bytes: usize,
}

/// See the module.
pub(crate) struct History {
    limits: HistoryLimits,
    past: VecDeque<Past>,
    marks: VecDeque<(Revision, Map)>,
    since_mark: usize,
    bytes: usize,
    compacted: Revision,
    /// After `.0` up to `.1` nothing is known: an unclean stop may have lost relaxed writes there.
    hole: Option<(Revision, Revision)>,
}

/// A piece of the history for one watcher.
pub(crate) struct Piece {
    pub(crate) batches: VecDeque<WatchBatch>,
    /// Where the next piece starts.
    pub(crate) next: Revision,
}

/// What to lay over a newer state, within a range, to have an older one: none where there was no key.
pub(crate) type Undo = BTreeMap<Key, Option<Arc<Entry>>>;

impl History {
    pub(crate) fn new(limits: HistoryLimits, start: Revision) -> Self {
        let (past, marks) = (VecDeque::new(), VecDeque::new());
        Self { limits, past, marks, since_mark: 0, bytes: 0, compacted: start, hole: None }
    }

    /// Bytes that only the history still holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }

    /// Whether the hole makes `revision` unreadable. The end of the hole is a state that all saw.
    fn in_hole(&self, revision: Revision) -> Option<Revision> {
        self.hole.filter(|(from, to)| revision > *from && revision < *to).map(|(_, to)| to)
    }

    pub(crate) fn set_hole(&mut self, from: Revision, to: Revision) {
        self.hole = Some((from, to));
    }

    /// Adds the changes of one commit, in order; `map` is the state after the last.
    pub(crate) fn push(&mut self, changes: &[Change], map: &Map, now: Instant) {
        for change in changes {
            let bytes = change.events.iter().filter_map(|event| event.prev.as_ref()).map(|e| e.size()).sum();
            self.bytes += bytes;
            self.since_mark += change.events.len();
            self.past.push_back(Past { change: change.clone(), at: now, bytes });
        }
        if let Some(last) = changes.last().filter(|_| self.since_mark >= MARK_EVERY) {
            self.marks.push_back((last.revision, map.clone()));
            self.since_mark = 0;
        }
        self.trim(now);
    }

    fn trim(&mut self, now: Instant) {
        while let Some(oldest) = self.past.front() {
            let over = self.past.len() > self.limits.revisions
                || self.bytes > self.limits.bytes
                || now.saturating_duration_since(oldest.at) > self.limits.age;
            if !over {
                return;
            }
            self.compact(oldest.change.revision);
        }
    }

    /// Forgets everything up to `revision`.
    pub(crate) fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(revision);
        while let Some(oldest) = self.past.front().filter(|past| past.change.revision <= self.compacted) {
            self.bytes -= oldest.bytes;
            self.past.pop_front();
        }
        while self.marks.front().is_some_and(|(at, _)| *at <= self.compacted) {
            self.marks.pop_front();
        }
    }

    /// Whether a watch may start at `start`.
    pub(crate) fn check_start(&self, start: Revision) -> Result<(), Error> {
        if start <= self.compacted {
            return Err(Error::Compacted { compact_revision: self.compacted });
        }
        // A watch from the hole's first revision has seen all before it, and nothing of what was lost.
        match self.in_hole(Revision(start.0 - 1)) {
            Some(compact_revision) => Err(Error::Compacted { compact_revision }),
            None => Ok(()),
        }
    }

    /// What of the changes `from..=upto` lies in the range: about `max_events` of them.
    pub(crate) fn replay(
        &self,
        range: &KeyRange,
        from: Revision,
        upto: Revision,
        max_events: usize,
    ) -> Result<Piece, Error> {
        self.check_start(from)?;
        let first = self.past.partition_point(|past| past.change.revision < from);
        let mut piece = Piece { batches: VecDeque::new(), next: upto.next() };
        let mut taken = 0;
        for Past { change, .. } in self.past.range(first..) {
            if change.revision > upto {
                break;
            }
            if taken >= max_events {
                piece.next = change.revision;
                break;
            }
            let in_range = |(_, event): &(usize, &Event)| range.contains(&event.entry.key);
            let picked: Vec<usize> =
                change.events.iter().enumerate().filter(in_range).map(|(at, _)| at).collect();
            if !picked.is_empty() {
                taken += picked.len();
                let events = pick(&change.events, &picked);
                piece.batches.push_back(WatchBatch::new(change.revision, events));
            }
        }
        Ok(piece)
    }

    /// A state at or after `revision` with what to undo in it: a mark, or the `newest` one.
    pub(crate) fn at(
        &self,
        range: &KeyRange,
        revision: Revision,
        newest: (Revision, &Map),
    ) -> Result<(Map, Undo), Error> {
        if revision < self.compacted {
            return Err(Error::Compacted { compact_revision: self.compacted });
        }
        if let Some(compact_revision) = self.in_hole(revision) {
            return Err(Error::Compacted { compact_revision });
        }
        let mark = self.marks.partition_point(|(at, _)| *at < revision);
        let (from, map) = match self.marks.get(mark).filter(|(at, _)| *at < newest.0) {
            Some((at, map)) => (*at, map),
            None => newest,
        };
        let first = self.past.partition_point(|past| past.change.revision <= revision);
        let mut undo = Undo::new();
        for Past { change, .. } in self.past.range(first..) {
            if change.revision > from {
                break;
            }
            for event in change.events.iter().filter(|event| range.contains(&event.entry.key)) {
                undo.entry(event.entry.key.clone()).or_insert_with(|| event.prev.clone());
            }
        }
        Ok((map.clone(), undo))
    }
}
