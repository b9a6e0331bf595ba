//! The state of one member, and the inputs that change it.

use std::collections::BTreeMap;

use fastrand::Rng;

use crate::log::Log;
use crate::progress::{Mode, Progress};
use crate::reads::Reads;
use crate::ready::{Chunk, Outstanding};
use crate::snapshot::Incoming;
use crate::{Body, Change, Conf, Entry, HardState, Message, NodeId, Payload, ReadState, SnapshotMeta};

/// How a member behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// This member; not zero.
    pub id: NodeId,
    /// Ticks without a leader after which an election begins, up to twice that (etcd: 10 of 100 ms).
    pub election_ticks: u32,
    /// Ticks between a leader's signs of life (etcd: 1).
    pub heartbeat_ticks: u32,
    /// Bytes of entries in one append, beyond the first.
    pub max_append_bytes: usize,
    /// Appends under way to one member.
    pub max_inflight: usize,
    /// Bytes under way to one member.
    pub max_inflight_bytes: usize,
    /// Where the randomness of timeouts comes from.
    pub seed: u64,
}

impl Config {
    /// The defaults for member `id`.
    pub fn new(id: NodeId, seed: u64) -> Self {
        Self {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            max_append_bytes: 1 << 20,
            max_inflight: 256,
            max_inflight_bytes: 16 << 20,
            seed,
        }
    }
}

/// What was found on disk.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// The last one written.
    pub hard_state: HardState,
    /// What the state machine holds, and who the members were then. Of a new cluster: index 0 and the first members.
    pub snapshot: SnapshotMeta,
    /// The entries after it, without gap.
    pub entries: Vec<Entry>,
    /// The newest commit index that was written; entries up to it are given out to be applied at once.
    pub commit: u64,
}

/// What a member is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It takes what a leader sends.
    Follower,
    /// It asks whether an election makes sense.
    PreCandidate,
    /// It asks for votes.
    Candidate,
    /// It has a majority's votes.
    Leader,
}

/// Why a proposal was not taken; it has no effect and may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// There is no leader now.
    #[error("no leader")]
    NoLeader,
    /// Leadership is on its way to another member.
    #[error("leadership is being transferred")]
    Transferring,
    /// An earlier change of members is not in force yet.
    #[error("another change of members is under way")]
    ChangePending,
    /// Only the leader takes this.
    #[error("not leader")]
    NotLeader,
}

/// How the leader sees a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub id: NodeId,
    /// Its log is the leader's up to here.
    pub matched: u64,
    /// It answered within the last two election timeouts, or is this member.
    pub active: bool,
    /// A snapshot is on its way to it.
    pub in_snapshot: bool,
}

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its term.
    pub term: u64,
    /// The leader that it knows; zero: none.
    pub leader: NodeId,
    /// What it is.
    pub role: Role,
    /// The last index known to be committed.
    pub commit: u64,
    /// The last index applied.
    pub applied: u64,
    /// The last index in its log.
    pub last_index: u64,
}

/// See the crate.
#[derive(Debug)]
pub struct Raft {
    pub(crate) id: NodeId,
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    pub(crate) term: u64,
    pub(crate) vote: NodeId,
    pub(crate) commit: u64,
    /// What was given out to be written, and what is on disk.
    pub(crate) written: HardState,
    pub(crate) durable: HardState,
    pub(crate) log: Log,
    pub(crate) conf: Conf,
    pub(crate) role: Role,
    pub(crate) leader: NodeId,
    /// Of a leader: all members, itself too.
    pub(crate) progress: BTreeMap<NodeId, Progress>,
    /// Of a candidate.
    pub(crate) votes: BTreeMap<NodeId, bool>,
    pub(crate) election_elapsed: u32,
    pub(crate) heartbeat_elapsed: u32,
    pub(crate) timeout: u32,
    pub(crate) applied: u64,
    /// Up to here entries were given out to be applied.
    pub(crate) applying: u64,
    /// The last change of members in the log may be here.
    pub(crate) pending_change: u64,
    /// To whom leadership is moving, and for how many ticks.
    pub(crate) transfer: Option<(NodeId, u32)>,
    pub(crate) now: Vec<Message>,
    pub(crate) after: Vec<Message>,
    /// Of a leader: others are to be sent entries, or the commit index, with the next [`crate::Ready`]: once for all
    /// that came since the last.
    pub(crate) unsent_entries: bool,
    pub(crate) unsent_commit: bool,
    pub(crate) reads: Reads,
    pub(crate) read_states: Vec<ReadState>,
    pub(crate) refused: Vec<u64>,
    pub(crate) incoming: Option<Incoming>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) install: Option<SnapshotMeta>,
    /// A whole snapshot is being made the state; the log must not change meanwhile.
    pub(crate) installing: Option<SnapshotMeta>,
    pub(crate) outstanding: Option<Outstanding>,
    pub(crate) ready_number: u64,
}

impl Raft {
    /// A member that goes on from what is on disk.
    pub fn new(config: Config, restored: Restored) -> Self {
        let Restored { hard_state, snapshot, entries, commit } = restored;
        let log = Log::new(snapshot.index, snapshot.term, entries);
        let commit = commit.clamp(snapshot.index, log.last_index());
        let mut raft = Self {
            id: config.id,
            rng: Rng::with_seed(config.seed ^ config.id.rotate_left(32)),
            config,
            term: hard_state.term,
            vote: hard_state.vote,
            commit,
            written: hard_state,
            durable: hard_state,
            conf: snapshot.conf,
            role: Role::Follower,
            leader: 0,
            progress: BTreeMap::new(),
            votes: BTreeMap::new(),
            election_elapsed: 0,
            heartbeat_elapsed: 0,
            timeout: 0,
            applied: snapshot.index,
            applying: snapshot.index,
            pending_change: 0,
            transfer: None,
            now: Vec::new(),
            after: Vec::new(),
            unsent_entries: false,
            unsent_commit: false,
            reads: Reads::default(),
            read_states: Vec::new(),
            refused: Vec::new(),
            incoming: None,
            chunks: Vec::new(),
            install: None,
            installing: None,
            outstanding: None,
            ready_number: 0,
            log,
        };
        raft.follow(hard_state.term, 0);
        raft
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        match self.role {
            Role::Leader => self.tick_leader(),
            _ => self.tick_election(),
        }
    }

    /// Proposes an entry; `id` comes back in [`crate::Ready::refused`] if it was handed to a leader that was none.
    /// Gives the term and index that it will be committed with, if ever, or none if it was handed on. If an entry of a
    /// newer term is applied first, it never will be.
    ///
    /// # Errors
    /// [`ProposeError`]: nothing was proposed.
    pub fn propose(&mut self, id: u64, payload: Payload) -> Result<Option<(u64, u64)>, ProposeError> {
        if self.role != Role::Leader {
            if matches!(payload, Payload::Change(_)) {
                return Err(ProposeError::NotLeader);
            }
            if self.leader == 0 || self.leader == self.id {
                return Err(ProposeError::NoLeader);
            }
            self.send(self.leader, Body::Propose { id, payload });
            return Ok(None);
        }
        if self.transfer.is_some() {
            return Err(ProposeError::Transferring);
        }
        let change = matches!(payload, Payload::Change(_));
        if change && self.pending_change > self.applied {
            return Err(ProposeError::ChangePending);
        }
        let index = self.append([payload]);
        if change {
            self.pending_change = index;
        }
        self.unsent_entries = true;
        Ok(Some((self.term, index)))
    }

    /// A change of members was applied: it is in force now. Gives the members.
    pub fn apply_change(&mut self, change: &Change) -> &Conf {
        self.conf.apply(change);
        if self.role == Role::Leader {
            self.follow_conf();
        }
        &self.conf
    }

    /// Takes a message.
    pub fn step(&mut self, message: Message) {
        if message.to != self.id {
            return;
        }
        if self.step_termless(&message) {
            return;
        }
        if message.term > self.term {
            if self.ignores_candidate(&message) {
                return;
            }
            match message.body {
                Body::PreVote { .. } | Body::PreVoteReply { granted: true } => {}
                Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. } => {
                    self.follow(message.term, message.from);
                }
                _ => self.follow(message.term, 0),
            }
        } else if message.term < self.term {
            return self.answer_stale(&message);
        }
        self.step_current(message);
    }

    /// Messages whose meaning does not depend on the term. Whether it was one.
    fn step_termless(&mut self, message: &Message) -> bool {
        let from = message.from;
        match &message.body {
            Body::Propose { id, payload } => {
                // Made for this term's leader alone: so it is lost for sure once another term's has begun.
                let meant = self.role == Role::Leader && message.term == self.term;
                let taken = meant && self.propose(*id, payload.clone()).is_ok();
                if !taken {
                    self.send(from, Body::Refused { id: *id });
                }
            }
            Body::Refused { id } => self.refused.push(*id),
            Body::ReadIndex { id } => self.read_for(from, *id),
            Body::ReadIndexReply { id, index } => {
                self.read_states.push(ReadState { id: *id, index: *index });
            }
            _ => return false,
        }
        true
    }

    /// The sender is behind. A leader among them steps down when it hears the newer term.
    fn answer_stale(&mut self, message: &Message) {
        match message.body {
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. } => {
                self.send(message.from, Body::AppendReply { matched: 0, hint: None });
            }
            Body::PreVote { .. } => self.send(message.from, Body::PreVoteReply { granted: false }),
            _ => {}
        }
    }

    fn step_current(&mut self, message: Message) {
        let from = message.from;
        match message.body {
            Body::PreVote { last_index, last_term } => {
                self.on_pre_vote(from, message.term, last_index, last_term)
            }
            Body::Vote { last_index, last_term, .. } => self.on_vote(from, last_index, last_term),
            Body::PreVoteReply { granted } if self.role == Role::PreCandidate => self.on_reply(from, granted),
            Body::VoteReply { granted } if self.role == Role::Candidate => self.on_reply(from, granted),
            Body::Append { prev_index, prev_term, commit, entries } => {
                self.hear_leader(from);
                self.on_append(from, (prev_index, prev_term), commit, entries);
            }
            Body::Heartbeat { commit, read } => {
                self.hear_leader(from);
                self.on_heartbeat(from, commit, read);
            }
            Body::Snapshot { meta, chunk, data, last } => {
                self.hear_leader(from);
                self.on_snapshot(from, meta, (chunk, data, last));
            }
            Body::TimeoutNow if self.may_campaign() => self.campaign(true),
            Body::AppendReply { matched, hint } if self.role == Role::Leader => {
                self.on_append_reply(from, matched, hint);
            }
            Body::HeartbeatReply { read } if self.role == Role::Leader => self.on_heartbeat_reply(from, read),
            Body::SnapshotReply { index, next } if self.role == Role::Leader => {
                self.on_snapshot_reply(from, index, next);
            }
            _ => {}
        }
    }

    /// How this member stands.
    pub fn status(&self) -> Status {
        Status {
            term: self.term,
            leader: self.leader,
            role: self.role,
            commit: self.commit,
            applied: self.applied,
            last_index: self.log.last_index(),
        }
    }

    /// The members, as of the last change applied.
    pub fn conf(&self) -> &Conf {
        &self.conf
    }

    /// What a leader knows of the members, itself included.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus> + '_ {
        self.progress.iter().map(|(id, progress)| PeerStatus {
            id: *id,
            matched: progress.matched,
            active: progress.silent < self.config.election_ticks * 2 || *id == self.id,
            in_snapshot: matches!(progress.mode, Mode::Snapshot(_)),
        })
    }

    /// Forgets log entries up to `index`, which must be applied and covered by what a snapshot would hold.
    pub fn compact(&mut self, index: u64) {
        self.log.compact(index.min(self.applied));
    }

    /// The first index that is no longer there, and about how many bytes the entries after it take.
    pub fn log_extent(&self) -> (u64, usize) {
        (self.log.base_index(), self.log.bytes())
    }

    /// The term of an entry, if it is still there.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        self.log.term(index)
    }

    /// The entries after `index`, for a log that begins anew; none if some are gone.
    pub fn entries_after(&self, index: u64) -> Vec<Entry> {
        self.log.slice(index + 1, self.log.last_index(), usize::MAX)
    }

    /// Term and vote as they are on disk.
    pub fn hard_state_on_disk(&self) -> HardState {
        self.durable
    }

    /// Which state a snapshot made now holds. None: the entry's term is no longer known.
    pub fn snapshot_meta(&self) -> Option<SnapshotMeta> {
        let term = self.log.term(self.applied)?;
        Some(SnapshotMeta { index: self.applied, term, conf: self.conf.clone() })
    }
}
