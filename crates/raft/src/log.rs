//! The log in memory: every entry after a base that snapshots cover.

use std::collections::VecDeque;

use crate::Entry;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    /// The entry before the first one held.
    base_index: u64,
    base_term: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Up to here entries are on disk.
    stable: u64,
    /// Up to here entries were given out to be written.
    handed: u64,
}

impl Log {
    /// A log whose entries are all on disk.
    pub(crate) fn new(base_index: u64, base_term: u64, entries: Vec<Entry>) -> Self {
        let bytes = entries.iter().map(|entry| entry.payload.size()).sum();
        let mut log = Self { base_index, base_term, entries: entries.into(), bytes, stable: 0, handed: 0 };
        log.stable = log.last_index();
        log.handed = log.stable;
        log
    }

    pub(crate) fn base_index(&self) -> u64 {
        self.base_index
    }

    pub(crate) fn last_index(&self) -> u64 {
        self.base_index + self.entries.len() as u64
    }

    pub(crate) fn last_term(&self) -> u64 {
        self.entries.back().map_or(self.base_term, |entry| entry.term)
    }

    pub(crate) fn stable(&self) -> u64 {
        self.stable
    }

    /// The term of an entry that is held, or of the base.
    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        if index == self.base_index {
            return Some(self.base_term);
        }
        self.get(index).map(|entry| entry.term)
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.checked_sub(self.base_index + 1)?).ok()?)
    }

    /// Entries from `from` to `upto` (both included), but after the first only while they fit into `max_bytes`.
    pub(crate) fn slice(&self, from: u64, upto: u64, max_bytes: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let mut taken = Vec::new();
        for index in from..=upto {
            let Some(entry) = self.get(index) else { break };
            bytes += entry.payload.size();
            if bytes > max_bytes && !taken.is_empty() {
                break;
            }
            taken.push(entry.clone());
        }
        taken
    }

    /// Appends; what is there from the first one's index on goes.
    pub(crate) fn append(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            let keep = entry.index.saturating_sub(self.base_index + 1);
            if keep < self.entries.len() as u64 {
                self.bytes -=
                    self.entries.drain(keep as usize..).map(|entry| entry.payload.size()).sum::<usize>();
                self.stable = self.stable.min(entry.index - 1);
                self.handed = self.handed.min(entry.index - 1);
            }
            debug_assert_eq!(entry.index, self.last_index() + 1, "the log has no gaps");
            self.bytes += entry.payload.size();
            self.entries.push_back(entry);
        }
    }

    /// Of entries from a leader, those that this log does not have. None: all are there.
    pub(crate) fn missing(&self, entries: &[Entry]) -> Option<usize> {
        entries.iter().position(|entry| self.term(entry.index) != Some(entry.term))
    }

    /// The greatest index up to `index` whose term is not above `term`, with its term.
    pub(crate) fn agreeing(&self, index: u64, term: u64) -> (u64, u64) {
        let mut index = index.min(self.last_index());
        while index > self.base_index {
            match self.term(index) {
                Some(here) if here <= term => return (index, here),
                _ => index -= 1,
            }
        }
        (index, self.term(index).unwrap_or(0))
    }

    /// Entries that were not given out to be written yet.
    pub(crate) fn hand_out(&mut self) -> Vec<Entry> {
        let entries = self.slice(self.handed + 1, self.last_index(), usize::MAX);
        self.handed = self.last_index();
        entries
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        self.handed < self.last_index()
    }

    /// The entries up to this one are on disk, if it still is the one here.
    pub(crate) fn persisted(&mut self, index: u64, term: u64) {
        if self.term(index) == Some(term) {
            self.stable = self.stable.max(index);
        }
    }

    /// Forgets entries up to `index`.
    pub(crate) fn compact(&mut self, index: u64) {
        let Some(term) = self.term(index).filter(|_| index <= self.stable) else { return };
        let gone = self.entries.drain(..(index - self.base_index) as usize);
        self.bytes -= gone.map(|entry| entry.payload.size()).sum::<usize>();
        self.base_index = index;
        self.base_term = term;
    }

    /// Bytes of the entries held, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins anew after what a snapshot holds.
    pub(crate) fn reset(&mut self, index: u64, term: u64) {
        *self = Self::new(index, term, Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Payload;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { term, index, payload: Payload::Empty }
    }

    #[test]
    fn a_conflict_takes_the_rest_of_the_log_and_its_durability_with_it() {
        let mut log = Log::new(0, 0, vec![entry(1, 1), entry(2, 1), entry(3, 1)]);
        assert_eq!(log.missing(&[entry(2, 1), entry(3, 2)]), Some(1));
        log.append([entry(3, 2)]);
        assert_eq!((log.last_index(), log.stable()), (3, 2));
        log.persisted(3, 1);
        assert_eq!(log.stable(), 2, "that was the entry that is gone");
        assert_eq!(log.hand_out(), [entry(3, 2)]);
        log.persisted(3, 2);
        assert_eq!((log.stable(), log.has_unwritten()), (3, false));
        log.compact(2);
        assert_eq!((log.term(1), log.term(2), log.term(3)), (None, Some(1), Some(2)));
    }

    #[test]
    fn logs_agree_at_or_before_a_term() {
        let log = Log::new(2, 1, vec![entry(3, 1), entry(4, 3), entry(5, 3), entry(6, 6)]);
        assert_eq!(log.agreeing(6, 5), (5, 3));
        assert_eq!(log.agreeing(9, 2), (3, 1));
        assert_eq!(log.agreeing(5, 0), (2, 1));
    }
}
