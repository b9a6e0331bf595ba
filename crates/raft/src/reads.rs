//! Linearizable reads: a majority confirms that the leader still leads, once for all reads that wait.

use std::collections::VecDeque;

use crate::raft::{Raft, Role};
use crate::{Body, NodeId, ProposeError, ReadState};

/// A read that waits: for whom, its id, and the commit index when it came.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    from: NodeId,
    id: u64,
    index: u64,
    round: u64,
}

/// Reads of a leader.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reads {
    /// They came before the leader had committed anything in its term, and so knew what is committed.
    early: Vec<(NodeId, u64)>,
    waiting: VecDeque<Waiting>,
    /// The newest round that heartbeats ask for. Never goes back, so that answers to old ones confirm nothing new.
    round: u64,
    /// There are reads of the next round.
    unsent: bool,
}

impl Reads {
    pub(crate) fn clear(&mut self) {
        self.early.clear();
        self.waiting.clear();
        self.unsent = false;
    }

    pub(crate) fn round(&self) -> u64 {
        self.round
    }
}

impl Raft {
    /// Asks for an index that covers everything committed so far; it comes as a [`ReadState`] with `id`, or never if
    /// leadership changes: the caller asks again then.
    ///
    /// # Errors
    /// [`ProposeError::NoLeader`].
    pub fn read_index(&mut self, id: u64) -> Result<(), ProposeError> {
        match self.leader {
            0 => Err(ProposeError::NoLeader),
            leader if leader == self.id => {
                self.read_for(self.id, id);
                Ok(())
            }
            leader => {
                self.send(leader, Body::ReadIndex { id });
                Ok(())
            }
        }
    }

    pub(crate) fn read_for(&mut self, from: NodeId, id: u64) {
        if self.role != Role::Leader {
            return;
        }
        if self.log.term(self.commit) != Some(self.term) {
            self.reads.early.push((from, id));
            return;
        }
        if self.conf.has_quorum(|id| id == self.id) {
            return self.answer_read(from, id, self.commit);
        }
        let round = self.reads.round + 1;
        self.reads.waiting.push_back(Waiting { from, id, index: self.commit, round });
        self.reads.unsent = true;
    }

    /// Sends one round of heartbeats for the reads that came since the last, once that one is confirmed: under load the
    /// rounds carry more reads then, instead of being more. Lost heartbeats are made good by those of the clock.
    pub(crate) fn flush_reads(&mut self) {
        let under_way = self.reads.waiting.front().is_some_and(|read| read.round <= self.reads.round);
        if self.reads.unsent && !under_way {
            self.reads.unsent = false;
            self.reads.round += 1;
            self.broadcast_heartbeat();
        }
    }

    /// The leader's first commit in its term tells what is committed.
    pub(crate) fn release_reads(&mut self) {
        for (from, id) in std::mem::take(&mut self.reads.early) {
            self.read_for(from, id);
        }
    }

    pub(crate) fn confirm_reads(&mut self) {
        let own = self.reads.round;
        let confirmed = self.conf.reached(|id| match self.progress.get(&id) {
            _ if id == self.id => own,
            Some(progress) => progress.read,
            None => 0,
        });
        while let Some(read) = self.reads.waiting.pop_front_if(|read| read.round <= confirmed) {
            self.answer_read(read.from, read.id, read.index);
        }
    }

    fn answer_read(&mut self, from: NodeId, id: u64, index: u64) {
        if from == self.id {
            self.read_states.push(ReadState { id, index });
        } else {
            self.send(from, Body::ReadIndexReply { id, index });
        }
    }
}
