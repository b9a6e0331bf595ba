//! Elections: who stands, who gets votes, and when a leader gives up.

use crate::progress::{Mode, Progress};
use crate::raft::{Raft, Role};
use crate::{Body, Message, NodeId, Payload, ProposeError};

impl Raft {
    /// Becomes a follower of `leader` (zero: of nobody yet) in `term`.
    pub(crate) fn follow(&mut self, term: u64, leader: NodeId) {
        if term > self.term {
            self.term = term;
            self.vote = 0;
        }
        self.role = Role::Follower;
        self.leader = leader;
        self.progress.clear();
        self.votes.clear();
        self.transfer = None;
        self.reads.clear();
        self.restart_timer();
    }

    fn restart_timer(&mut self) {
        self.election_elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.timeout = self.config.election_ticks + self.rng.u32(0..self.config.election_ticks.max(1));
    }

    /// A leader of this term was heard of.
    pub(crate) fn hear_leader(&mut self, from: NodeId) {
        if self.role != Role::Follower || self.leader != from {
            self.follow(self.term, from);
        }
        self.election_elapsed = 0;
    }

    pub(crate) fn tick_election(&mut self) {
        self.election_elapsed += 1;
        // A member that may not stand still has to know that its leader is gone, to let others stand.
        if self.election_elapsed >= self.timeout && self.may_campaign() {
            self.pre_campaign();
        }
    }

    /// Whether this member could lead. A change of members that is committed has to be in force first, or two
    /// majorities that share no member could come about.
    pub(crate) fn may_campaign(&self) -> bool {
        let unapplied = (self.applied + 1..=self.commit)
            .any(|index| matches!(self.log.get(index).map(|entry| &entry.payload), Some(Payload::Change(_))));
        self.role != Role::Leader
            && self.conf.voters.contains(&self.id)
            && self.installing.is_none()
            && !unapplied
    }

    /// Stands for election now instead of after the timeout.
    pub fn campaign_now(&mut self) {
        if self.may_campaign() {
            self.pre_campaign();
        }
    }

    fn pre_campaign(&mut self) {
        self.follow(self.term, 0);
        self.role = Role::PreCandidate;
        self.votes.insert(self.id, true);
        if self.conf.has_quorum(|id| id == self.id) {
            return self.campaign(false);
        }
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        self.ask_voters(&Body::PreVote { last_index, last_term });
    }

    /// Begins a new term. The own vote counts once it is on disk, see [`Raft::count_own_vote`].
    pub(crate) fn campaign(&mut self, transfer: bool) {
        self.follow(self.term + 1, 0);
        self.role = Role::Candidate;
        self.vote = self.id;
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        self.ask_voters(&Body::Vote { last_index, last_term, transfer });
    }

    fn ask_voters(&mut self, body: &Body) {
        let others: Vec<NodeId> = self.conf.voters.iter().copied().filter(|id| *id != self.id).collect();
        others.into_iter().for_each(|id| self.send(id, body.clone()));
    }

    pub(crate) fn count_own_vote(&mut self) {
        let own = self.role == Role::Candidate
            && self.durable == self.hard_state()
            && !self.votes.contains_key(&self.id);
        if own {
            self.on_reply(self.id, true);
        }
    }

    /// Whoever hears a leader does not help another to power, unless the leader asked for it: a member that was cut
    /// off, or removed, cannot disturb the others.
    pub(crate) fn ignores_candidate(&self, message: &Message) -> bool {
        let asked = match message.body {
            Body::PreVote { .. } => true,
            Body::Vote { transfer, .. } => !transfer,
            _ => false,
        };
        let leader_lives = match self.role {
            Role::Leader => true,
            _ => self.leader != 0 && self.election_elapsed < self.config.election_ticks,
        };
        asked && leader_lives
    }

    fn is_up_to_date(&self, last_index: u64, last_term: u64) -> bool {
        (last_term, last_index) >= (self.log.last_term(), self.log.last_index())
    }

    pub(crate) fn on_pre_vote(&mut self, from: NodeId, term: u64, last_index: u64, last_term: u64) {
        let free = term > self.term || self.vote == from || (self.vote == 0 && self.leader == 0);
        let granted = free && self.installing.is_none() && self.is_up_to_date(last_index, last_term);
        let message =
            Message { from: self.id, to: from, term: self.term, body: Body::PreVoteReply { granted } };
        let term = if granted { term } else { self.term };
        self.after.push(Message { term, ..message });
    }

    pub(crate) fn on_vote(&mut self, from: NodeId, last_index: u64, last_term: u64) {
        let free = self.vote == from || (self.vote == 0 && self.leader == 0);
        let granted = free && self.installing.is_none() && self.is_up_to_date(last_index, last_term);
        if granted {
            self.vote = from;
            self.election_elapsed = 0;
        }
        self.send(from, Body::VoteReply { granted });
    }

    pub(crate) fn on_reply(&mut self, from: NodeId, granted: bool) {
        self.votes.entry(from).or_insert(granted);
        if self.conf.has_quorum(|id| self.votes.get(&id) == Some(&true)) {
            match self.role {
                Role::PreCandidate => self.campaign(false),
                _ => self.lead(),
            }
        } else if self.conf.has_quorum(|id| self.votes.get(&id) == Some(&false)) {
            self.follow(self.term, 0);
        }
    }

    fn lead(&mut self) {
        self.follow(self.term, self.id);
        self.role = Role::Leader;
        let next = self.log.last_index() + 1;
        self.progress = self.conf.ids().map(|id| (id, Progress::new(next))).collect();
        // Whatever is in the log may be a change of members; none is taken until it is applied.
        self.pending_change = self.log.last_index();
        self.append([Payload::Empty]);
        let stable = self.log.stable();
        if let Some(own) = self.progress.get_mut(&self.id) {
            own.acknowledge(stable);
        }
        self.broadcast_append();
    }

    pub(crate) fn tick_leader(&mut self) {
        self.election_elapsed += 1;
        self.heartbeat_elapsed += 1;
        self.progress.values_mut().for_each(|progress| progress.silent = progress.silent.saturating_add(1));
        if let Some((_, waited)) = &mut self.transfer {
            *waited += 1;
            if *waited >= self.config.election_ticks {
                self.transfer = None;
            }
        }
        if self.election_elapsed >= self.config.election_ticks {
            self.election_elapsed = 0;
            if !self.check_quorum() {
                return self.follow(self.term, 0);
            }
        }
        self.tick_snapshots();
        if self.heartbeat_elapsed >= self.config.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            self.broadcast_heartbeat();
        }
    }

    /// Whether a majority answered since the last call.
    fn check_quorum(&mut self) -> bool {
        let (id, progress) = (self.id, &self.progress);
        let quorum = self
            .conf
            .has_quorum(|other| other == id || progress.get(&other).is_some_and(|progress| progress.active));
        for (other, progress) in &mut self.progress {
            if !progress.active && *other != id && matches!(progress.mode, Mode::Snapshot(_)) {
                progress.probe();
            }
            progress.active = false;
        }
        quorum
    }

    /// Moves leadership to `to`; it has happened when [`Raft::status`] says so, or not within an election timeout.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] if this member does not lead or `to` has no vote.
    pub fn transfer_leader(&mut self, to: NodeId) -> Result<(), ProposeError> {
        if self.role != Role::Leader || !self.conf.voters.contains(&to) {
            return Err(ProposeError::NotLeader);
        }
        if to == self.id {
            return Ok(());
        }
        self.transfer = Some((to, 0));
        self.election_elapsed = 0;
        self.continue_transfer(to);
        Ok(())
    }

    /// Hands over as soon as the other has the whole log.
    pub(crate) fn continue_transfer(&mut self, to: NodeId) {
        let wanted = self.transfer.is_some_and(|(target, _)| target == to);
        let last = self.log.last_index();
        if wanted && self.progress.get(&to).is_some_and(|progress| progress.matched == last) {
            self.send(to, Body::TimeoutNow);
        } else if wanted {
            self.send_append(to, false);
        }
    }

    /// Follows a change of members while leading.
    pub(crate) fn follow_conf(&mut self) {
        let conf = &self.conf;
        self.progress.retain(|id, _| conf.contains(*id));
        let next = self.log.last_index() + 1;
        for id in conf.ids() {
            self.progress.entry(id).or_insert_with(|| Progress::new(next));
        }
        if self.transfer.is_some_and(|(to, _)| !conf.voters.contains(&to)) {
            self.transfer = None;
        }
        if !self.advance_commit() {
            self.broadcast_append();
        }
        // A leader that is no member any more tells the others before it steps down.
        self.flush_appends();
        if !self.conf.voters.contains(&self.id) {
            self.follow(self.term, 0);
        }
    }
}
