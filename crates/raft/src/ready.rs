//! What the core hands out, and hears back of.

use bytes::Bytes;

use crate::raft::{Raft, Role};
use crate::{Body, Entry, HardState, Message, NodeId, Payload, SnapshotMeta};

/// Bytes of entries that are given out to be applied at once.
const MAX_COMMITTED_BYTES: usize = 8 << 20;

/// Work for the owner, in the order of the fields. The next one comes after [`Raft::persisted`].
#[derive(Debug, Clone, Default)]
pub struct Ready {
    /// To be given to [`Raft::persisted`].
    pub number: u64,
    /// To be sent now; need not wait for the disk.
    pub messages: Vec<Message>,
    /// To be written, if it changed.
    pub hard_state: Option<HardState>,
    /// To be written. They replace what is in the log from the first one's index on.
    pub entries: Vec<Entry>,
    /// The commit index, worth writing along with something else but not on its own.
    pub commit: u64,
    /// To be sent once all of this is on disk.
    pub after: Vec<Message>,
    /// To be applied, then told by [`Raft::applied`]. They are on disk already.
    pub committed: Vec<Entry>,
    /// Reads that may go on when everything up to their index is applied.
    pub reads: Vec<ReadState>,
    /// Proposals of this member that nobody took or will take.
    pub refused: Vec<u64>,
    /// Pieces of a snapshot, in order.
    pub chunks: Vec<Chunk>,
    /// The snapshot that the pieces make is whole: to be made the state, durably, then told by [`Raft::installed`].
    pub install: Option<SnapshotMeta>,
}

impl Ready {
    /// Whether something has to reach the disk before [`Ready::after`] may be sent.
    pub fn must_sync(&self) -> bool {
        self.hard_state.is_some() || !self.entries.is_empty()
    }
}

/// A read that was confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadState {
    /// What [`Raft::read_index`] was called with.
    pub id: u64,
    /// Everything committed before the call is at or below it.
    pub index: u64,
}

/// A piece of a snapshot from the leader. Number 0 begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Of which snapshot.
    pub meta: SnapshotMeta,
    /// Which piece.
    pub number: u64,
    /// Its content.
    pub data: Bytes,
}

/// What was given out and is being written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outstanding {
    number: u64,
    last: Option<(u64, u64)>,
    hard_state: HardState,
}

impl Raft {
    /// The next work, if there is any and the last was done.
    pub fn ready(&mut self) -> Option<Ready> {
        if self.outstanding.is_some() {
            return None;
        }
        self.flush_reads();
        self.flush_appends();
        let hard_state = self.hard_state();
        let upto = self.commit.min(self.log.stable());
        let idle = self.now.is_empty()
            && self.after.is_empty()
            && hard_state == self.written
            && !self.log.has_unwritten()
            && self.applying >= upto
            && self.read_states.is_empty()
            && self.refused.is_empty()
            && self.chunks.is_empty()
            && self.install.is_none();
        if idle {
            return None;
        }
        self.ready_number += 1;
        let entries = self.log.hand_out();
        let committed = self.log.slice(self.applying + 1, upto, MAX_COMMITTED_BYTES);
        self.applying += committed.len() as u64;
        let last = entries.last().map(|entry| (entry.index, entry.term));
        let changed = (hard_state != self.written).then_some(hard_state);
        self.written = hard_state;
        self.outstanding = Some(Outstanding { number: self.ready_number, last, hard_state });
        Some(Ready {
            number: self.ready_number,
            messages: std::mem::take(&mut self.now),
            hard_state: changed,
            entries,
            commit: self.commit,
            after: std::mem::take(&mut self.after),
            committed,
            reads: std::mem::take(&mut self.read_states),
            refused: std::mem::take(&mut self.refused),
            chunks: std::mem::take(&mut self.chunks),
            install: self.install.take(),
        })
    }

    /// What the `number`th [`Ready`] asked to write is on disk.
    pub fn persisted(&mut self, number: u64) {
        let Some(done) = self.outstanding.take_if(|outstanding| outstanding.number == number) else { return };
        self.durable = done.hard_state;
        if let Some((index, term)) = done.last {
            self.log.persisted(index, term);
        }
        self.count_own_vote();
        if self.role == Role::Leader {
            let stable = self.log.stable();
            if let Some(own) = self.progress.get_mut(&self.id) {
                own.acknowledge(stable);
            }
            self.advance_commit();
        }
    }

    /// Entries up to `index` have been applied; changes of members among them by [`Raft::apply_change`] before.
    pub fn applied(&mut self, index: u64) {
        self.applied = self.applied.max(index);
    }

    pub(crate) fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote }
    }

    /// Sends what need not wait for the disk: what only repeats things that are on disk here or elsewhere.
    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        let term = match &body {
            Body::PreVote { .. } => self.term + 1,
            _ => self.term,
        };
        let message = Message { from: self.id, to, term, body };
        if self.after.last_mut().is_some_and(|last| last.absorbs(&message)) {
            return;
        }
        match message.body {
            Body::PreVoteReply { .. }
            | Body::Vote { .. }
            | Body::VoteReply { .. }
            | Body::AppendReply { .. }
            | Body::HeartbeatReply { .. }
            | Body::SnapshotReply { .. } => self.after.push(message),
            _ => self.now.push(message),
        }
    }

    /// Appends entries of this leader.
    pub(crate) fn append(&mut self, payloads: impl IntoIterator<Item = Payload>) -> u64 {
        let (term, mut index) = (self.term, self.log.last_index());
        for payload in payloads {
            index += 1;
            self.log.append([Entry { term, index, payload }]);
        }
        index
    }
}

impl Message {
    /// Takes up what a later answer says, so that one answers several appends.
    fn absorbs(&mut self, later: &Self) -> bool {
        if (self.to, self.term) != (later.to, later.term) {
            return false;
        }
        match (&mut self.body, &later.body) {
            (Body::AppendReply { matched, hint: None }, Body::AppendReply { matched: later, hint: None }) => {
                *matched = (*matched).max(*later);
                true
            }
            _ => false,
        }
    }
}
