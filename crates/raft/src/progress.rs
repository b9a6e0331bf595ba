//! What a leader knows of each member, and how fast it sends to it.

use std::collections::VecDeque;

use crate::SnapshotMeta;

/// How entries go to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One append at a time, to find where the logs agree. True: one is under way.
    Probe(bool),
    /// Ahead of the answers.
    Replicate,
    /// It is too far behind for entries.
    Snapshot(Sending),
}

/// A snapshot that is being sent, one piece at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sending {
    pub(crate) meta: SnapshotMeta,
    pub(crate) chunk: u64,
    /// Ticks since the piece was sent.
    pub(crate) waited: u32,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    /// Up to here its log is the leader's, durably.
    pub(crate) matched: u64,
    /// What is sent next.
    pub(crate) next: u64,
    pub(crate) mode: Mode,
    /// It answered since the leader last looked whether it has a quorum.
    pub(crate) active: bool,
    /// Ticks since it answered.
    pub(crate) silent: u32,
    /// The newest round of reads that it confirmed.
    pub(crate) read: u64,
    /// Last index and bytes of each append under way.
    inflight: VecDeque<(u64, usize)>,
    inflight_bytes: usize,
}

impl Progress {
    pub(crate) fn new(next: u64) -> Self {
        Self {
            matched: 0,
            next,
            mode: Mode::Probe(false),
            active: true,
            silent: 0,
            read: 0,
            inflight: VecDeque::new(),
            inflight_bytes: 0,
        }
    }

    /// It answered.
    pub(crate) fn heard(&mut self) {
        self.active = true;
        self.silent = 0;
    }

    /// Whether an append may be sent now.
    pub(crate) fn has_room(&self, max_messages: usize, max_bytes: usize) -> bool {
        match self.mode {
            Mode::Probe(waiting) => !waiting,
            Mode::Replicate => self.inflight.len() < max_messages && self.inflight_bytes < max_bytes,
            Mode::Snapshot(_) => false,
        }
    }

    /// An append up to `last` was sent.
    pub(crate) fn sent(&mut self, last: Option<u64>, bytes: usize) {
        match (&mut self.mode, last) {
            (Mode::Probe(waiting), _) => *waiting = true,
            (Mode::Replicate, Some(last)) => {
                self.next = last + 1;
                self.inflight.push_back((last, bytes));
                self.inflight_bytes += bytes;
            }
            _ => {}
        }
    }

    /// It has everything up to `index`; whether that is news.
    pub(crate) fn acknowledge(&mut self, index: u64) -> bool {
        let news = index > self.matched;
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched + 1);
        while self.inflight.front().is_some_and(|(last, _)| *last <= index) {
            if let Some((_, bytes)) = self.inflight.pop_front() {
                self.inflight_bytes -= bytes;
            }
        }
        news
    }

    /// Frees one place: a heartbeat was answered although no append was, so one may have been lost.
    pub(crate) fn free_one(&mut self) {
        if let Mode::Probe(waiting) = &mut self.mode {
            *waiting = false;
        }
        if let Some((_, bytes)) = self.inflight.pop_front() {
            self.inflight_bytes -= bytes;
        }
    }

    fn clear(&mut self) {
        self.inflight.clear();
        self.inflight_bytes = 0;
    }

    pub(crate) fn probe(&mut self) {
        self.next = self.matched + 1;
        self.mode = Mode::Probe(false);
        self.clear();
    }

    /// The same, going on at `next`.
    pub(crate) fn probe_from(&mut self, next: u64) {
        self.mode = Mode::Probe(false);
        self.next = next.max(self.matched + 1);
        self.clear();
    }

    pub(crate) fn replicate(&mut self) {
        self.mode = Mode::Replicate;
        self.next = self.matched + 1;
        self.clear();
    }

    pub(crate) fn snapshot(&mut self, meta: SnapshotMeta) {
        self.mode = Mode::Snapshot(Sending { meta, chunk: 0, waited: 0 });
        self.clear();
    }
}
