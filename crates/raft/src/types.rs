//! Entries and messages.

use bytes::Bytes;

use crate::{Change, Conf};

/// A member's id; zero is nobody.
pub type NodeId = u64;

/// What an entry carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: the first entry of each leader.
    Empty,
    /// Something for the state machine.
    Data(Bytes),
    /// A change of members. In force once applied.
    Change(Change),
}

impl Payload {
    /// About how many bytes it takes on disk and wire.
    pub fn size(&self) -> usize {
        const OVERHEAD: usize = 24;
        OVERHEAD
            + match self {
                Self::Empty => 0,
                Self::Data(data) => data.len(),
                Self::Change(change) => change.context.len(),
            }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that made it.
    pub term: u64,
    /// Its place; the first is 1.
    pub index: u64,
    /// What it carries.
    pub payload: Payload,
}

/// What a member must not forget, beside the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term it has seen.
    pub term: u64,
    /// Whom it voted for in that term.
    pub vote: NodeId,
}

/// Which state a snapshot holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry whose effect it holds.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The members as of that entry.
    pub conf: Conf,
}

/// A message between members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sends it.
    pub from: NodeId,
    /// Who gets it.
    pub to: NodeId,
    /// The sender's term; of a pre-vote and its grant, the term that the candidate would have.
    pub term: u64,
    /// What it says.
    pub body: Body,
}

/// Where a follower's log ceases to fit an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// The `prev_index` that was refused.
    pub refused: u64,
    /// An index at which the logs may agree, and the follower's term there.
    pub index: u64,
    /// See `index`.
    pub term: u64,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Would you vote for me? Changes nothing at the one who is asked.
    PreVote { last_index: u64, last_term: u64 },
    /// The answer to it.
    PreVoteReply { granted: bool },
    /// A candidate asks for a vote; `transfer`: the leader itself wants it.
    Vote { last_index: u64, last_term: u64, transfer: bool },
    /// The answer to it.
    VoteReply { granted: bool },
    /// Entries after (`prev_index`, `prev_term`); none to probe or to tell the commit index.
    Append { prev_index: u64, prev_term: u64, commit: u64, entries: Vec<Entry> },
    /// The logs agree up to `matched` (durably), or `hint` says where they may.
    AppendReply { matched: u64, hint: Option<Hint> },
    /// A sign of life; with the newest round of reads that wait for a quorum.
    Heartbeat { commit: u64, read: u64 },
    /// The answer to it.
    HeartbeatReply { read: u64 },
    /// A piece of a snapshot. The core leaves `data` and `last` to the driver, which has the state.
    Snapshot { meta: SnapshotMeta, chunk: u64, data: Bytes, last: bool },
    /// The piece that is wanted next of the snapshot at `index`.
    SnapshotReply { index: u64, next: u64 },
    /// A follower hands a proposal on. The network must not give it twice.
    Propose { id: u64, payload: Payload },
    /// The proposal was not taken, and never will be.
    Refused { id: u64 },
    /// A follower asks for an index that covers everything committed so far.
    ReadIndex { id: u64 },
    /// The answer to it.
    ReadIndexReply { id: u64, index: u64 },
    /// Leadership is yours: stand for election at once.
    TimeoutNow,
}
