//! What only the leader can answer: leases' time, and changes of members. Other members ask it.

use std::time::Duration;

use bytes::Bytes;
use raft::wire::Reader;
use raft::{Body, Change, ChangeKind, Entry, Message, Payload, ProposeError, Role};
use tokio::sync::oneshot;

use super::driver::{Asked, AskedBy, ChangeAsked, Driver, Moving};
use super::members::{member, put_member};
use super::peer::{Ask, Frame, Told};
use super::reads::Waiting;
use crate::lease::Moment;
use crate::{ClusterError, Error, LeaseId, Member, MemberId};

/// How long the leader is waited for.
const ASK_TIMEOUT: Duration = Duration::from_secs(7);
/// How long the member waits before it tells its name again.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// Questions that wait for a leader; further ones are refused.
const MAX_UNASKED: usize = 1024;
/// Learners at once (etcd `--experimental-max-learners`).
const MAX_LEARNERS: usize = 1;
/// A learner has to have this much of the leader's log to be promoted, in percent (etcd `readyPercent`).
const READY_PERCENT: u64 = 90;

impl Driver {
    pub(super) fn send(&mut self, message: Message) {
        let to = MemberId(message.to);
        let Some(message) = self.fill(message) else { return };
        self.transport.send(to, Frame::Raft(message).encode());
    }

    /// Takes a frame of another member.
    pub(super) fn hear(&mut self, frame: Frame, now: Moment) {
        if self.stalled.is_some() {
            return;
        }
        match frame {
            Frame::Raft(message) => {
                // Those who were removed have nothing to say, but may not know it.
                let gone = self.members.removed.contains(&MemberId(message.from));
                if !gone || matches!(message.body, Body::AppendReply { .. }) {
                    self.raft.step(message);
                }
            }
            Frame::Ask { from, id, ask } => self.answer(ask, AskedBy::Other(from, id), now),
            Frame::Tell { id, told } => {
                let Some(asked) = self.asked.remove(&id) else { return };
                match told {
                    // It does not lead any more, and did nothing: whoever does is asked.
                    Err(ClusterError::Store(Error::NoLeader)) => self.unasked.push(asked),
                    told => _ = asked.reply.send(told),
                }
            }
        }
    }

    /// Asks the leader, or answers if this member leads; waits for one if there is none.
    pub(super) fn ask(&mut self, ask: Ask, reply: oneshot::Sender<Result<Told, ClusterError>>, now: Moment) {
        if self.leads {
            return self.answer(ask, AskedBy::Own(reply), now);
        }
        self.ask_leader(Asked { ask, reply, deadline: now.instant + ASK_TIMEOUT });
    }

    fn ask_leader(&mut self, asked: Asked) {
        let leader = self.raft.status().leader;
        if leader == 0 && self.unasked.len() < MAX_UNASKED {
            return self.unasked.push(asked);
        }
        if leader == 0 {
            _ = asked.reply.send(Err(Error::NoLeader.into()));
            return;
        }
        let (from, id) = (self.own.id, self.session ^ self.fresh_id());
        let ask = asked.ask.clone();
        self.asked.insert(id, asked);
        self.transport.send(MemberId(leader), Frame::Ask { from, id, ask }.encode());
    }

    /// Asks what waited for a leader.
    pub(super) fn ask_again(&mut self, now: Moment) {
        if self.unasked.is_empty() || self.raft.status().leader == 0 {
            return;
        }
        for asked in std::mem::take(&mut self.unasked) {
            match self.leads {
                true => self.answer(asked.ask, AskedBy::Own(asked.reply), now),
                false => self.ask_leader(asked),
            }
        }
    }

    /// Leadership changed: what can be asked twice is asked again.
    pub(super) fn ask_other_leader(&mut self) {
        let twice = |asked: &Asked| matches!(asked.ask, Ask::KeepAlive(_) | Ask::LeaseStatus(_));
        self.unasked.extend(self.asked.extract_if(|_, asked| twice(asked)).map(|(_, asked)| asked));
    }

    pub(super) fn tell(&mut self, from: AskedBy, told: Result<Told, ClusterError>) {
        match from {
            AskedBy::Own(reply) => _ = reply.send(told),
            AskedBy::Other(to, id) => {
                self.transport.send(to, Frame::Tell { id, told }.encode());
            }
        }
    }

    fn answer(&mut self, ask: Ask, from: AskedBy, now: Moment) {
        if !self.leads {
            return self.tell(from, Err(Error::NoLeader.into()));
        }
        match ask {
            Ask::Change { kind, member } => self.change(kind, member, from),
            ask => self.read(Waiting::Leader(ask, from), now.instant + ASK_TIMEOUT),
        }
    }

    /// Answers about a lease, once it is certain that somebody led after it was asked.
    pub(super) fn answer_confirmed(&mut self, ask: Ask, from: AskedBy, now: Moment) {
        if !self.leads || self.raft.status().role != Role::Leader {
            // A successor said so; it is asked itself.
            return match from {
                AskedBy::Own(reply) => {
                    self.unasked.push(Asked { ask, reply, deadline: now.instant + ASK_TIMEOUT });
                }
                other => self.tell(other, Err(Error::NoLeader.into())),
            };
        }
        let told = match ask {
            Ask::KeepAlive(id) if self.revoking.contains(&id) => Err(Error::LeaseNotFound(id).into()),
            Ask::KeepAlive(id) => {
                self.applier.state.leases.renew(id, now);
                self.lease(id, now)
            }
            Ask::LeaseStatus(id) => self.lease(id, now),
            Ask::Change { kind, member } => return self.change(kind, member, from),
        };
        self.tell(from, told);
    }

    fn lease(&self, id: LeaseId, now: Moment) -> Result<Told, ClusterError> {
        let status = self.applier.state.leases.status(id, now.instant);
        status.map(Told::Lease).ok_or(Error::LeaseNotFound(id).into())
    }

    fn change(&mut self, kind: ChangeKind, asked: Member, from: AskedBy) {
        let member = match self.check_change(kind, asked) {
            Ok(member) => member,
            Err(error) => return self.tell(from, Err(error)),
        };
        let mut context = Vec::new();
        put_member(&mut context, &member);
        let change = Change { kind, id: member.id.0, context: context.into() };
        match self.raft.propose(0, Payload::Change(change)) {
            Ok(Some((_, index))) => _ = self.changes.insert(index, ChangeAsked { member, from }),
            Ok(None) | Err(ProposeError::NoLeader | ProposeError::NotLeader) => {
                self.tell(from, Err(Error::NoLeader.into()));
            }
            Err(ProposeError::ChangePending | ProposeError::Transferring) => {
                self.tell(from, Err(ClusterError::Unhealthy));
            }
        }
    }

    /// Refuses changes that would cost the cluster its quorum, as etcd's strict check does.
    fn check_change(&self, kind: ChangeKind, asked: Member) -> Result<Member, ClusterError> {
        let list = &self.members.list;
        let taken = |urls: &[String]| {
            let others = list.values().filter(|other| other.id != asked.id);
            others.flat_map(|other| &other.peer_urls).any(|url| urls.contains(url))
        };
        let voters = list.values().filter(|member| !member.is_learner);
        let (voting, started) =
            (voters.clone().count(), voters.filter(|member| !member.name.is_empty()).count());
        let there = list.get(&asked.id).cloned();
        match kind {
            ChangeKind::AddVoter if asked.id.0 != 0 => {
                let member = there.ok_or(ClusterError::MemberNotFound)?;
                self.check_promotion(&member, voting, started)?;
                Ok(Member { is_learner: false, ..member })
            }
            ChangeKind::AddVoter | ChangeKind::AddLearner => {
                if taken(&asked.peer_urls) {
                    return Err(ClusterError::PeerUrlExists);
                }
                let is_learner = kind == ChangeKind::AddLearner;
                if is_learner && list.values().filter(|member| member.is_learner).count() >= MAX_LEARNERS {
                    return Err(ClusterError::TooManyLearners);
                }
                let enough = started >= quorum_of(voting + 1) || (started == 1 && voting == 1);
                if !is_learner && !enough {
                    return Err(ClusterError::NotEnoughStarted);
                }
                if !is_learner && self.silent_voters(None) > 0 {
                    return Err(ClusterError::Unhealthy);
                }
                Ok(Member { id: self.free_member_id(), is_learner, ..asked })
            }
            ChangeKind::Remove => {
                let member = there.ok_or(ClusterError::MemberNotFound)?;
                self.check_removal(&member, voting, started)?;
                Ok(member)
            }
            ChangeKind::Update => {
                let member = there.ok_or(ClusterError::MemberNotFound)?;
                if taken(&asked.peer_urls) {
                    return Err(ClusterError::PeerUrlExists);
                }
                Ok(updated(member, asked))
            }
        }
    }

    fn check_promotion(&self, member: &Member, voting: usize, started: usize) -> Result<(), ClusterError> {
        if !member.is_learner {
            return Err(ClusterError::MemberNotLearner);
        }
        let matched = |id: u64| self.raft.peers().find(|peer| peer.id == id).map_or(0, |peer| peer.matched);
        let (its, own) = (matched(member.id.0), matched(self.own.id.0));
        if its * 100 < own * READY_PERCENT {
            return Err(ClusterError::LearnerNotReady);
        }
        // The learner itself counts as started if it has told its name.
        let started = started + usize::from(!member.name.is_empty());
        if started < quorum_of(voting + 1) {
            return Err(ClusterError::NotEnoughStarted);
        }
        Ok(())
    }

    fn check_removal(&self, member: &Member, voting: usize, started: usize) -> Result<(), ClusterError> {
        if member.is_learner {
            return Ok(());
        }
        let left = voting - 1;
        let started = started - usize::from(!member.name.is_empty());
        if left == 0 || started < quorum_of(left) {
            return Err(ClusterError::NotEnoughStarted);
        }
        let silent = self.silent_voters(Some(member.id));
        if left - silent.min(left) < quorum_of(left) {
            return Err(ClusterError::Unhealthy);
        }
        Ok(())
    }

    /// Voters, but for one, that have not answered lately.
    fn silent_voters(&self, without: Option<MemberId>) -> usize {
        let voters = &self.raft.conf().voters;
        let counted = |id: u64| voters.contains(&id) && Some(MemberId(id)) != without;
        self.raft.peers().filter(|peer| counted(peer.id) && !peer.active).count()
    }

    fn free_member_id(&self) -> MemberId {
        loop {
            let id = MemberId(fastrand::u64(1 << 40..));
            if !self.members.list.contains_key(&id) && !self.members.removed.contains(&id) {
                return id;
            }
        }
    }

    /// A change of members is committed.
    pub(super) fn apply_change(&mut self, entry: &Entry, change: &Change) {
        self.raft.apply_change(change);
        let id = MemberId(change.id);
        if change.kind == ChangeKind::Remove {
            if self.raft.conf().contains(change.id) {
                return self.told_change(entry);
            }
            self.members.list.remove(&id);
            self.members.removed.insert(id);
            self.outgoing.remove(&change.id);
        } else if let Some(member) = member(&mut Reader(Bytes::clone(&change.context))) {
            self.members.list.insert(id, member);
        }
        tracing::info!(member = %id, kind = ?change.kind, "the members changed");
        self.transport.members(self.members.cluster_id, self.own.id, &self.members.to_vec());
        self.shared.set_members(&self.members);
        self.told_change(entry);
        if self.members.removed.contains(&self.own.id) {
            tracing::error!("this member was removed from the cluster");
            self.shared.removed.send_replace(true);
        }
    }

    fn told_change(&mut self, entry: &Entry) {
        if let Some(ChangeAsked { member, from }) = self.changes.remove(&entry.index) {
            self.tell(from, Ok(Told::Member(member)));
        }
    }

    /// Nobody knows what became of the changes that a leader had under way.
    pub(super) fn lose_changes(&mut self) {
        for (_, ChangeAsked { from, .. }) in std::mem::take(&mut self.changes) {
            self.tell(from, Err(Error::Timeout.into()));
        }
    }

    /// Tells the others this member's name and client URLs, if they do not know them.
    pub(super) fn publish_self(&mut self) {
        let known = self.members.list.get(&self.own.id);
        let differs = known
            .is_some_and(|known| known.name != self.own.name || known.client_urls != self.own.client_urls);
        if !differs || self.raft.status().leader == 0 || !self.changes.is_empty() {
            return;
        }
        let member = Member { peer_urls: Vec::new(), ..self.own.clone() };
        let now = Moment::of(&*self.clock);
        if self.publish_wait.is_some_and(|until| now.instant < until) {
            return;
        }
        self.publish_wait = Some(now.instant + PUBLISH_EVERY);
        // Whatever comes of it is seen in the member list.
        let (reply, _) = oneshot::channel();
        self.ask(Ask::Change { kind: ChangeKind::Update, member }, reply, now);
    }

    pub(super) fn move_leader(
        &mut self,
        to: MemberId,
        reply: oneshot::Sender<Result<(), ClusterError>>,
        now: Moment,
    ) {
        let answer = match () {
            () if !self.leads => Err(ClusterError::NotLeader),
            () if to == self.own.id => Ok(()),
            () if self.raft.transfer_leader(to.0).is_err() => Err(ClusterError::BadLeaderTransferee),
            () => {
                self.moving = Some(Moving { to, reply, deadline: now.instant + ASK_TIMEOUT });
                return;
            }
        };
        _ = reply.send(answer);
    }
}

fn quorum_of(voters: usize) -> usize {
    voters / 2 + 1
}

/// The member with what an update says: URLs of one kind or the other.
fn updated(member: Member, asked: Member) -> Member {
    let or = |new: Vec<String>, old: Vec<String>| if new.is_empty() { old } else { new };
    Member {
        name: if asked.name.is_empty() { member.name } else { asked.name },
        peer_urls: or(asked.peer_urls, member.peer_urls),
        client_urls: or(asked.client_urls, member.client_urls),
        ..member
    }
}
