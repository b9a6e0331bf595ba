//! A member's disk: what was written reaches it in order, but only what was synced survives a crash for sure.

use bytes::Bytes;
use fastrand::Rng;
use raft::{Entry, HardState, Restored, SnapshotMeta};

/// One write.
#[derive(Debug, Clone)]
enum Write {
    HardState(HardState),
    Entries(Vec<Entry>),
    Commit(u64),
}

#[derive(Debug, Clone, Default)]
struct Content {
    hard_state: HardState,
    snapshot: SnapshotMeta,
    state: Bytes,
    entries: Vec<Entry>,
    commit: u64,
}

impl Content {
    fn apply(&mut self, write: Write) {
        match write {
            Write::HardState(hard_state) => self.hard_state = hard_state,
            Write::Commit(commit) => self.commit = commit,
            Write::Entries(entries) => {
                for entry in entries {
                    if entry.index <= self.snapshot.index {
                        continue;
                    }
                    let keep = entry.index - self.snapshot.index - 1;
                    self.entries.truncate(keep as usize);
                    assert_eq!(keep, self.entries.len() as u64, "the log on disk has a gap");
                    self.entries.push(entry);
                }
            }
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    content: Content,
    unsynced: Vec<Write>,
}

impl Disk {
    /// The disk of one of a new cluster's first members.
    pub fn first(snapshot: SnapshotMeta, state: Bytes) -> Self {
        let hard_state = HardState { term: snapshot.term, vote: 0 };
        let commit = snapshot.index;
        Self {
            content: Content { hard_state, snapshot, state, commit, ..Content::default() },
            unsynced: Vec::new(),
        }
    }

    pub fn write(&mut self, hard_state: Option<HardState>, entries: Vec<Entry>, commit: u64) {
        self.unsynced.extend(hard_state.map(Write::HardState));
        if !entries.is_empty() {
            self.unsynced.push(Write::Entries(entries));
        }
        self.unsynced.push(Write::Commit(commit));
    }

    pub fn sync(&mut self) {
        self.unsynced.drain(..).for_each(|write| self.content.apply(write));
    }

    /// A part of what was not synced is there, the last of it perhaps torn.
    pub fn crash(&mut self, rng: &mut Rng) {
        let survive = rng.usize(0..=self.unsynced.len());
        for (at, write) in std::mem::take(&mut self.unsynced).into_iter().enumerate() {
            match write {
                write if at < survive => self.content.apply(write),
                Write::Entries(mut entries) if at == survive => {
                    entries.truncate(rng.usize(0..=entries.len()));
                    self.content.apply(Write::Entries(entries));
                }
                _ => return,
            }
        }
    }

    /// Puts a state there, durably; entries that it holds go, and all of them if the log does not lead to it.
    pub fn save(&mut self, meta: SnapshotMeta, state: Bytes) {
        self.sync();
        let base = self.content.snapshot.index;
        assert!(meta.index >= base, "a state on disk never goes back");
        let held = (meta.index - base) as usize;
        let leads =
            held > 0 && self.content.entries.get(held - 1).is_some_and(|entry| entry.term == meta.term);
        if leads {
            self.content.entries.drain(..held);
        } else if held > 0 {
            self.content.entries.clear();
        }
        self.content.commit = self.content.commit.max(meta.index);
        self.content.snapshot = meta;
        self.content.state = state;
    }

    pub fn restore(&self) -> (Restored, Bytes) {
        let Content { hard_state, snapshot, state, entries, commit } = self.content.clone();
        (Restored { hard_state, snapshot, entries, commit }, state)
    }
}
