//! The member's thread: takes requests and frames in batches to the Raft core, and does what that asks for. One frame
//! of the log and one sync carry all entries of a batch.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::SharedClock;
use raft::{Payload, Raft, ReadState, Ready, Role};
use tokio::sync::oneshot;

use super::Shared;
use super::apply::{Applier, Reply, Waiter};
use super::inbox::{Inbox, Input};
use super::members::Members;
use super::peer::{Ask, Frame, Told, Transport};
use super::persist::Disk;
use super::reads::{AskedReads, Read, Waiting};
use super::request::{Request, Stamp};
use super::snapshots::{Incoming, Outgoing};
use crate::lease::Moment;
use crate::{ClusterError, Error, LeaseId, MAX_LEASE_TTL_S, Member, MemberId};

/// Inputs taken in one batch; the rest waits for the next sync.
const MAX_BATCH_INPUTS: usize = 1024;
/// Bytes of requests taken in one batch.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// Leases whose end may be proposed in one round.
const MAX_EXPIRIES: usize = 256;
/// Requests that were taken and not answered; further ones are refused.
const MAX_PENDING: usize = 8192;
/// What was asked is given up after this long (etcd: 5 s and two election timeouts).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

/// A request of this member that was not answered yet.
pub(super) struct Pending {
    request: Request,
    waiter: Waiter,
    deadline: Instant,
    /// The proposal that is under way: its number, and the term whose leader alone can take it.
    sent: Option<(u64, u64)>,
}

/// A change of members that this member, leading, has in the log; and who is told of it.
pub(super) struct ChangeAsked {
    pub(super) member: Member,
    pub(super) from: AskedBy,
}

/// Who asked the leader for something.
pub(super) enum AskedBy {
    Own(oneshot::Sender<Result<Told, ClusterError>>),
    Other(MemberId, u64),
}

/// Something asked of the leader, and until when the answer is waited for.
pub(super) struct Asked {
    pub(super) ask: Ask,
    pub(super) reply: oneshot::Sender<Result<Told, ClusterError>>,
    pub(super) deadline: Instant,
}

/// A transfer of leadership that is waited for.
pub(super) struct Moving {
    pub(super) to: MemberId,
    pub(super) reply: oneshot::Sender<Result<(), ClusterError>>,
    pub(super) deadline: Instant,
}

/// See the module.
pub(crate) struct Driver {
    pub(super) raft: Raft,
    pub(super) applier: Applier,
    pub(super) disk: Disk,
    pub(super) members: Members,
    pub(super) own: Member,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: SharedClock,
    pub(super) tick: Duration,
    /// Tells this life of this member from all others.
    pub(super) session: u64,
    pub(super) next_id: u64,
    pub(super) pending: HashMap<u64, Pending>,
    /// Requests that wait for a leader, in order.
    pub(super) waiting: VecDeque<u64>,
    pub(super) reads: Vec<Read>,
    /// The question that was asked, and the reads it answers.
    pub(super) asked_reads: HashMap<u64, AskedReads>,
    pub(super) confirmed: Vec<ReadState>,
    pub(super) asked: HashMap<u64, Asked>,
    /// Questions that wait for a leader.
    pub(super) unasked: Vec<Asked>,
    pub(super) changes: HashMap<u64, ChangeAsked>,
    /// Leases whose end is proposed.
    pub(super) revoking: HashSet<LeaseId>,
    pub(super) moving: Option<Moving>,
    /// When the own name may be told again.
    pub(super) publish_wait: Option<Instant>,
    pub(super) outgoing: HashMap<u64, Outgoing>,
    pub(super) incoming: Incoming,
    pub(super) leader: u64,
    pub(super) leads: bool,
    /// A batch that the disk has no room for; tried again until it has.
    pub(super) stalled: Option<Box<Ready>>,
    pub(super) failed: Option<Error>,
    pub(super) closed: bool,
}

impl Driver {
    /// The thread.
    pub(crate) fn run(mut self, inbox: &Inbox) {
        let mut inputs = VecDeque::new();
        let mut next_tick = self.clock.instant() + self.tick;
        while !self.closed {
            if inputs.is_empty() {
                inbox.take(&mut inputs, next_tick, &*self.clock.clone());
            }
            let now = Moment::of(&*self.clock);
            if now.instant >= next_tick {
                // After a pause one tick is enough: nothing was heard meanwhile, so nothing is known either.
                next_tick = now.instant + self.tick;
                self.on_tick(now);
            }
            let mut bytes = 0;
            for _ in 0..MAX_BATCH_INPUTS {
                if bytes >= MAX_BATCH_BYTES {
                    break;
                }
                let Some(input) = inputs.pop_front() else { break };
                bytes += self.take(input, now);
            }
            self.settle(now);
        }
        inputs.into_iter().for_each(|input| input.refuse(Error::Closed));
        inbox.end();
    }

    /// Runs until nothing is left to do without others; a lone member leads then and has applied all it had.
    pub(crate) fn warm_up(&mut self) -> Result<(), Error> {
        let now = Moment::of(&*self.clock);
        if self.raft.conf().voters.len() == 1 {
            self.raft.campaign_now();
        }
        self.settle(now);
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn on_tick(&mut self, now: Moment) {
        if let Some(ready) = self.stalled.take() {
            self.carry_out(ready, now);
        }
        if self.stalled.is_some() || self.failed.is_some() {
            return self.expire_requests(now);
        }
        self.raft.tick();
        self.expire_requests(now);
        if self.leads {
            self.expire_leases(now);
        }
        self.ask_again(now);
        self.publish_self();
        self.housekeep();
        self.drop_old_snapshots();
    }

    fn housekeep(&mut self) {
        match self.disk.housekeep(&mut self.raft, &self.applier, &self.members, self.own.id) {
            Ok(()) => {}
            // The log is only longer than it need be; the next tick tries again.
            Err(Error::NoSpace(why)) => tracing::error!(why, "no space for a new segment"),
            Err(error) => self.fail(error),
        }
    }

    /// Gives the bytes that it adds to the batch.
    fn take(&mut self, input: Input, now: Moment) -> usize {
        if let Some(error) = &self.failed {
            if let Input::Close(reply) = input {
                self.close(reply);
            } else {
                input.refuse(error.clone());
            }
            return 0;
        }
        match input {
            Input::Request(request, waiter) => return self.request(request, waiter, now),
            Input::Read(reply) => self.read(Waiting::Caller(reply), now.instant + REQUEST_TIMEOUT),
            Input::Ask(ask, reply) => self.ask(ask, reply, now),
            Input::MoveLeader(to, reply) => self.move_leader(to, reply, now),
            Input::Checkpoint(reply) => {
                self.disk.ask_checkpoint();
                self.housekeep();
                _ = reply.send(Ok(()));
            }
            Input::Frame(bytes) => {
                let size = bytes.len();
                match Frame::decode(bytes) {
                    Some(frame) => self.hear(frame, now),
                    None => tracing::warn!("a member sent a frame that is not of this format"),
                }
                return size;
            }
            Input::Close(reply) => self.close(reply),
        }
        0
    }

    fn request(&mut self, mut request: Request, waiter: Waiter, now: Moment) -> usize {
        if let Err(error) = self.check(&mut request) {
            waiter.refuse(error);
            return 0;
        }
        let size = request.size();
        let id = self.fresh_id();
        let deadline = now.instant + REQUEST_TIMEOUT;
        self.pending.insert(id, Pending { request, waiter, deadline, sent: None });
        self.waiting.push_back(id);
        self.propose_waiting();
        size
    }

    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Decides what must not be decided by each member for itself.
    fn check(&mut self, request: &mut Request) -> Result<(), Error> {
        let size = request.size();
        if size > 0 && self.applier.state.bytes.saturating_add(size) > self.disk.quota_bytes {
            let quota = self.disk.quota_bytes;
            return Err(Error::NoSpace(format!("database space exceeded: the quota is {quota} bytes")));
        }
        if self.stalled.is_some() {
            return Err(Error::NoSpace("the disk is full".to_owned()));
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(Error::Overloaded);
        }
        if let Request::LeaseGrant { id, ttl_s } = request {
            if *ttl_s > MAX_LEASE_TTL_S {
                let (size, limit) = (*ttl_s as usize, MAX_LEASE_TTL_S as usize);
                return Err(Error::TooLarge { what: "lease time to live in seconds", size, limit });
            }
            *ttl_s = (*ttl_s).max(1);
            let picked = id.is_none();
            while id.is_none() || (picked && self.applier.state.leases.contains(*id)) {
                *id = LeaseId(fastrand::i64(1..));
            }
        }
        Ok(())
    }

    fn propose_waiting(&mut self) {
        while let Some(id) = self.waiting.pop_front() {
            let attempt = self.fresh_id();
            let leads = self.raft.status().role == Role::Leader;
            // Only who leads says that a lease is over.
            if !leads && self.pending.get(&id).is_some_and(|pending| matches!(pending.waiter, Waiter::Nobody))
            {
                self.pending.remove(&id);
            }
            let Some(pending) = self.pending.get_mut(&id) else { continue };
            let data = pending.request.encode(Stamp { session: self.session, id });
            if self.raft.propose(attempt, Payload::Data(data)).is_err() {
                self.waiting.push_front(id);
                return;
            }
            pending.sent = Some((attempt, self.raft.status().term));
        }
    }

    /// A leader of `term` has begun: what was meant for an earlier one and is not there never will be. It is proposed
    /// anew.
    fn propose_lost(&mut self, term: u64) {
        let lost = |pending: &&mut Pending| pending.sent.is_some_and(|(_, sent)| sent < term);
        let mut again = Vec::new();
        for (id, pending) in &mut self.pending {
            if lost(&pending) {
                pending.sent = None;
                again.push(*id);
            }
        }
        again.sort_unstable();
        self.waiting.extend(again);
    }

    /// A state came that may hold what is under way, and does not say so.
    pub(super) fn give_up_sent(&mut self) {
        let sent = self.pending.extract_if(|_, pending| pending.sent.is_some());
        sent.for_each(|(_, pending)| pending.waiter.refuse(Error::Timeout));
    }

    fn propose_refused(&mut self, attempts: &[u64]) {
        for attempt in attempts {
            let of_attempt = |pending: &Pending| pending.sent.is_some_and(|(sent, _)| sent == *attempt);
            let found = self.pending.iter_mut().find(|(_, pending)| of_attempt(pending));
            if let Some((id, pending)) = found {
                pending.sent = None;
                self.waiting.push_back(*id);
            }
        }
    }

    fn expire_leases(&mut self, now: Moment) {
        let due: Vec<LeaseId> = self.applier.state.leases.expired_by(now.instant, MAX_EXPIRIES);
        for id in due {
            if self.revoking.insert(id) {
                self.request(Request::LeaseRevoke { id }, Waiter::Nobody, now);
            }
        }
    }

    fn expire_requests(&mut self, now: Moment) {
        let over = self.pending.iter().filter(|(_, pending)| pending.deadline <= now.instant);
        let due: Vec<u64> = over.map(|(id, _)| *id).collect();
        for id in due {
            let Some(pending) = self.pending.remove(&id) else { continue };
            // One that is in the log may yet come to pass.
            if let Request::LeaseRevoke { id } = &pending.request
                && pending.sent.is_none()
            {
                self.revoking.remove(id);
            }
            let error = if pending.sent.is_none() { Error::NoLeader } else { Error::Timeout };
            pending.waiter.refuse(error);
        }
        self.waiting.retain(|id| self.pending.contains_key(id));
        self.expire_reads(now);
        let over = self.unasked.extract_if(.., |asked| asked.deadline <= now.instant);
        over.for_each(|asked| _ = asked.reply.send(Err(Error::NoLeader.into())));
        let over = self.asked.extract_if(|_, asked| asked.deadline <= now.instant);
        over.for_each(|(_, asked)| _ = asked.reply.send(Err(Error::Timeout.into())));
        if let Some(moving) = self.moving.take_if(|moving| moving.deadline <= now.instant) {
            _ = moving.reply.send(Err(ClusterError::LeaderTransferTimeout));
        }
    }

    /// Does all that the core asks for, until it asks for nothing more.
    fn settle(&mut self, now: Moment) {
        loop {
            if self.stalled.is_some() || self.failed.is_some() {
                break;
            }
            self.propose_waiting();
            self.ask_reads(now);
            let Some(ready) = self.raft.ready() else { break };
            self.carry_out(Box::new(ready), now);
            self.follow_leadership(now);
        }
        self.share();
    }

    fn carry_out(&mut self, mut ready: Box<Ready>, now: Moment) {
        for message in std::mem::take(&mut ready.messages) {
            self.send(message);
        }
        if ready.must_sync() {
            match self.disk.write(&ready) {
                Ok(()) => {}
                Err(Error::NoSpace(why)) => {
                    // Nothing was written. Others go on without this member until there is room.
                    if self.shared.health.lock().is_none() {
                        tracing::error!(
                            why,
                            "no space for the log: this member takes no part until there is"
                        );
                    }
                    self.shared.set_health(Some(Error::NoSpace(why)));
                    self.stalled = Some(ready);
                    return;
                }
                Err(error) => return self.fail(error),
            }
            self.shared.set_health(None);
        }
        self.raft.persisted(ready.number);
        for message in std::mem::take(&mut ready.after) {
            self.send(message);
        }
        self.apply(std::mem::take(&mut ready.committed), now);
        self.propose_refused(&ready.refused);
        self.receive_snapshot(&mut ready, now);
        self.confirmed.append(&mut ready.reads);
        self.answer_reads(now);
    }

    fn apply(&mut self, entries: Vec<raft::Entry>, now: Moment) {
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        let mut answers = Vec::new();
        for entry in &entries {
            match &entry.payload {
                Payload::Empty => self.propose_lost(entry.term),
                Payload::Change(change) => self.apply_change(entry, change),
                Payload::Data(data) => {
                    let Some((stamp, body)) = Request::stamp(data) else { continue };
                    let own =
                        (stamp.session == self.session).then(|| self.pending.remove(&stamp.id)).flatten();
                    let (request, waiter) = match own {
                        Some(pending) => (Some(pending.request), pending.waiter),
                        None => (Request::decode(body), Waiter::Nobody),
                    };
                    let Some(request) = request else { continue };
                    if let Request::LeaseRevoke { id } = &request {
                        self.revoking.remove(id);
                    }
                    answers.push((waiter, self.applier.apply(request, now)));
                }
            }
        }
        self.raft.applied(last);
        self.disk.forget_entries(&mut self.raft);
        let changes = self.applier.publish(now);
        answers.into_iter().for_each(|(waiter, outcome)| waiter.answer(outcome));
        if !changes.is_empty() {
            self.applier.keyspace.notify(&changes, self.applier.state.revision);
        }
    }

    /// Shows how the member stands.
    fn share(&self) {
        let raft = self.raft.status();
        let alone = self.leads && self.raft.conf().voters.len() == 1 && self.failed.is_none();
        self.shared.alone.store(alone && !self.closed, std::sync::atomic::Ordering::Release);
        let mut status = self.shared.status.lock();
        // A member that cannot write takes no part, and so knows of none.
        let takes_part = self.failed.is_none() && self.stalled.is_none();
        status.leader = (raft.leader != 0 && takes_part).then_some(MemberId(raft.leader));
        let has_leader = status.leader.is_some();
        status.term = raft.term;
        status.index = raft.commit;
        status.applied = raft.applied;
        status.is_learner = self.raft.conf().learners.contains(&self.own.id.0);
        drop(status);
        let changed = |known: &mut bool| std::mem::replace(known, has_leader) != has_leader;
        self.shared.has_leader.send_if_modified(changed);
    }

    /// Does what is due when leadership has changed.
    fn follow_leadership(&mut self, now: Moment) {
        let status = self.raft.status();
        let leads = status.role == Role::Leader;
        if leads && !self.leads {
            tracing::info!(term = status.term, "this member leads");
            self.revoking.clear();
            self.applier.extend_leases(now);
        }
        if !leads && self.leads {
            self.lose_changes();
            // The end of a lease is for the leader to say, and its successor may know better: not proposed anew.
            self.pending.retain(|_, pending| !matches!(pending.waiter, Waiter::Nobody));
        }
        self.leads = leads;
        if status.leader != self.leader {
            self.leader = status.leader;
            self.ask_other_leader();
            self.ask_again(now);
            self.ask_reads_again();
        }
        if let Some(moving) = self.moving.take_if(|moving| moving.to.0 == status.leader) {
            _ = moving.reply.send(Ok(()));
        }
    }

    /// After an error nobody knows what is on the disk: the member takes no part any more. Reads go on.
    pub(super) fn fail(&mut self, error: Error) {
        tracing::error!(%error, "the store could not write");
        self.shared.set_health(Some(error.clone()));
        let error = Error::Failed(Arc::new(error));
        self.refuse_all(&error);
        self.failed = Some(error);
    }

    fn refuse_all(&mut self, error: &Error) {
        self.pending.drain().for_each(|(_, pending)| pending.waiter.refuse(error.clone()));
        self.waiting.clear();
        self.refuse_reads(error);
        let asked = self.asked.drain().map(|(_, asked)| asked).chain(self.unasked.drain(..));
        asked.for_each(|asked| _ = asked.reply.send(Err(error.clone().into())));
        self.lose_changes();
    }

    fn close(&mut self, reply: Reply<()>) {
        let result = match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.disk.close(&self.raft),
        };
        self.refuse_all(&Error::Closed);
        self.closed = true;
        self.shared.set_health(Some(Error::Closed));
        self.shared.alone.store(false, std::sync::atomic::Ordering::Release);
        self.applier.keyspace.hub.close();
        _ = reply.send(result);
    }
}
