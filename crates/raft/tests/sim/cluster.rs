//! Members, the network between them, their clients, and whatever goes wrong, in virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use bytes::Bytes;
use fastrand::Rng;
use raft::{Body, Change, ChangeKind, Conf, Entry, Message, NodeId, Payload, Role, SnapshotMeta};

use crate::disk::Disk;
use crate::linear::{Call, Kind, is_linearizable};
use crate::machine::{Command, Machine};
use crate::node::{Effects, Node, Outcome};

/// How long things go wrong, in milliseconds of virtual time.
const TROUBLE_MS: u64 = 1800;
/// By when a cluster that is left alone has to be well again.
const RECOVERY_MS: u64 = 1600;
const MAX_MEMBERS: u64 = 7;
const KEYS: u64 = 3;

enum Event {
    Tick(NodeId, u64),
    Step(NodeId, u64),
    Deliver(Box<Message>),
    Call,
    Trouble,
    Start(NodeId),
}

struct Timed(u64, u64, Event);

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// See the module.
pub struct Cluster {
    rng: Rng,
    now: u64,
    events: BinaryHeap<Reverse<Timed>>,
    next_event: u64,
    pub nodes: BTreeMap<NodeId, Node>,
    blocked: HashSet<(NodeId, NodeId)>,
    loss: f64,
    duplicates: f64,
    slow_disk: bool,
    /// Of 65,536 steps so many end in a crash; and ticks of an election, fewer for more of them.
    crashes: u16,
    election_ticks: u32,
    quiet: bool,
    /// What was applied by the first member that did, and who led in each term.
    chosen: Vec<Entry>,
    /// The term, at most, in which each of these was committed.
    chosen_in: Vec<u64>,
    first_index: u64,
    leaders: HashMap<u64, NodeId>,
    calls: HashMap<u64, (u64, Call)>,
    next_call: u64,
    pub answered: u64,
    pub elections: u64,
    pub installs: u64,
}

impl Cluster {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = [1, 3, 3, 3, 4, 5][rng.usize(0..6)];
        let snapshot = SnapshotMeta { index: 1, term: 1, conf: Conf::of(1..=count) };
        let state = Machine { applied: 1, ..Machine::default() }.encode();
        let mut cluster = Self {
            now: 0,
            events: BinaryHeap::new(),
            next_event: 0,
            nodes: BTreeMap::new(),
            blocked: HashSet::new(),
            loss: if rng.bool() { 0.0 } else { rng.f64() * 0.2 },
            duplicates: if rng.bool() { 0.0 } else { rng.f64() * 0.2 },
            slow_disk: false,
            crashes: [20, 100, 800][rng.usize(0..3)],
            election_ticks: [3, 6, 10][rng.usize(0..3)],
            quiet: false,
            chosen: Vec::new(),
            chosen_in: Vec::new(),
            first_index: 2,
            leaders: HashMap::new(),
            calls: HashMap::new(),
            next_call: 1,
            answered: 0,
            elections: 0,
            installs: 0,
            rng,
        };
        for id in 1..=count {
            cluster.add_node(id, Disk::first(snapshot.clone(), state.clone()));
        }
        cluster.schedule(20, Event::Call);
        cluster.schedule(100, Event::Trouble);
        cluster
    }

    fn schedule(&mut self, after: u64, event: Event) {
        self.next_event += 1;
        self.events.push(Reverse(Timed(self.now + after, self.next_event, event)));
    }

    fn add_node(&mut self, id: NodeId, disk: Disk) {
        let mut node = Node::new(id, disk);
        node.election_ticks = self.election_ticks;
        self.nodes.insert(id, node);
        self.start(id);
    }

    fn start(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.raft.is_none()) else { return };
        node.start(&mut self.rng);
        let life = node.life;
        let first = self.rng.u64(0..10);
        self.schedule(first, Event::Tick(id, life));
        self.schedule(0, Event::Step(id, life));
    }

    fn crash(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.crash(&mut self.rng);
        }
        if !self.quiet && self.rng.u8(0..4) > 0 {
            let after = self.rng.u64(0..120);
            self.schedule(after, Event::Start(id));
        }
    }

    /// Lets everything go wrong for a while, then nothing, and checks what came of it.
    pub fn run(&mut self) {
        self.run_until(TROUBLE_MS);
        self.quiet = true;
        self.heal();
        self.loss = 0.0;
        self.duplicates = 0.0;
        self.slow_disk = false;
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.start(id);
            if let Some(node) = self.nodes.get_mut(&id) {
                (node.tick_ms, node.paused_until) = (10, 0);
            }
        }
        self.run_until(TROUBLE_MS + RECOVERY_MS / 2);
        let leader = self
            .leader()
            .unwrap_or_else(|| panic!("no leader after everything was repaired: {}", self.summary()));
        let call = self.call_on(leader, true);
        self.run_until(TROUBLE_MS + RECOVERY_MS);
        assert!(
            self.calls[&call].1.end.is_some(),
            "a call on the leader of a whole cluster was not answered"
        );
        self.check_converged();
        self.check_history();
    }

    fn run_until(&mut self, end: u64) {
        while self.events.peek().is_some_and(|Reverse(event)| event.0 <= end) {
            let Some(Reverse(Timed(at, _, event))) = self.events.pop() else { return };
            self.now = at;
            self.handle(event);
        }
        self.now = end;
    }

    fn leader(&self) -> Option<NodeId> {
        let leads = |node: &&Node| node.raft.as_ref().is_some_and(|raft| raft.status().role == Role::Leader);
        let leaders = self.nodes.values().filter(leads);
        leaders.max_by_key(|node| node.raft.as_ref().map(|raft| raft.status().term)).map(|node| node.id)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Tick(id, life) => {
                let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life == life) else { return };
                let every = node.tick_ms;
                if node.paused_until <= self.now {
                    node.raft.iter_mut().for_each(raft::Raft::tick);
                }
                self.schedule(every, Event::Tick(id, life));
                self.after_input(id);
            }
            Event::Step(id, life) => self.step(id, life),
            Event::Deliver(message) => self.deliver(*message),
            Event::Call => {
                let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
                let id = ids[self.rng.usize(..ids.len())];
                let write = self.rng.u8(0..3) > 0;
                self.call_on(id, write);
                if !self.quiet {
                    let next = self.rng.u64(2..30);
                    self.schedule(next, Event::Call);
                }
            }
            Event::Trouble if !self.quiet => {
                self.trouble();
                let next = self.rng.u64(20..200);
                self.schedule(next, Event::Trouble);
            }
            Event::Trouble => {}
            Event::Start(id) => self.start(id),
        }
    }

    /// A paused member hears things late, not never.
    fn deliver(&mut self, message: Message) {
        let Some(node) = self.nodes.get_mut(&message.to) else { return };
        if node.paused_until > self.now {
            let later = node.paused_until - self.now;
            return self.schedule(later, Event::Deliver(Box::new(message)));
        }
        let to = message.to;
        // A member knows who was removed, as far as it is up to date; the transport asks it.
        if let Some(raft) = &mut node.raft {
            raft.step(message);
            self.after_input(to);
        }
    }

    fn after_input(&mut self, id: NodeId) {
        self.check_node(id);
        let Some(node) = self.nodes.get(&id) else { return };
        if node.is_idle() {
            let life = node.life;
            let delay = self.io_delay();
            self.schedule(delay, Event::Step(id, life));
        }
    }

    fn io_delay(&mut self) -> u64 {
        match self.rng.u8(0..8) {
            0 if !self.quiet => self.rng.u64(0..if self.slow_disk { 150 } else { 15 }),
            1 | 2 => 1,
            _ => 0,
        }
    }

    fn step(&mut self, id: NodeId, life: u64) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life == life) else { return };
        if node.paused_until > self.now {
            let later = node.paused_until - self.now;
            return self.schedule(later, Event::Step(id, life));
        }
        let mut effects = Effects::default();
        let busy = node.step(&mut effects);
        effects.messages.into_iter().for_each(|message| self.send(message));
        effects.applied.into_iter().for_each(|entry| self.choose(id, entry));
        effects.outcomes.into_iter().for_each(|outcome| self.answer(outcome));
        self.check_node(id);
        // Between any two steps the machine may stop.
        if !self.quiet && self.rng.u16(..) < self.crashes {
            self.crash(id);
        } else if busy {
            let delay = self.io_delay();
            self.schedule(delay, Event::Step(id, life));
        }
    }

    fn send(&mut self, message: Message) {
        if self.blocked.contains(&(message.from, message.to)) || self.rng.f64() < self.loss {
            return;
        }
        if matches!(message.body, Body::Snapshot { last: true, .. }) {
            self.installs += 1;
        }
        let slow = !self.quiet && self.rng.u8(0..20) == 0;
        let delay = if slow { self.rng.u64(0..120) } else { self.rng.u64(0..if self.quiet { 3 } else { 6 }) };
        let twice = self.rng.f64() < self.duplicates && !matches!(message.body, Body::Propose { .. });
        if twice {
            let later = self.rng.u64(0..200);
            self.schedule(later, Event::Deliver(Box::new(message.clone())));
        }
        self.schedule(delay, Event::Deliver(Box::new(message)));
    }

    fn call_on(&mut self, id: NodeId, write: bool) -> u64 {
        let call = self.next_call;
        self.next_call += 1;
        let key = self.rng.u64(0..KEYS);
        let swap = self.rng.u8(0..4) == 0;
        let Some(node) = self.nodes.get_mut(&id) else { return call };
        let (kind, taken) = if write {
            let expected = swap.then(|| node.machine.registers.get(&key).copied().unwrap_or(0));
            let kind = expected.map_or(Kind::Write(call), |expected| Kind::Swap(expected, call));
            (kind, node.propose(Command { call, key, expected, value: call }))
        } else {
            (Kind::Read(0), node.read(call, key))
        };
        if taken {
            self.calls.insert(call, (key, Call { kind, begin: self.now, end: None }));
            self.after_input(id);
        }
        call
    }

    fn answer(&mut self, outcome: Outcome) {
        let (call, kind) = match outcome {
            Outcome::Refused { call } => {
                self.calls.remove(&call);
                return;
            }
            Outcome::Read { call, value } => (call, Some(Kind::Read(value))),
            Outcome::Done { call, fits: true } => (call, None),
            Outcome::Done { call, fits: false } => match self.calls.get(&call) {
                Some((_, Call { kind: Kind::Swap(expected, _), .. })) => {
                    (call, Some(Kind::NoSwap(*expected)))
                }
                _ => panic!("a write cannot fail"),
            },
        };
        if let Some((_, call)) = self.calls.get_mut(&call) {
            call.kind = kind.unwrap_or(call.kind);
            call.end = Some(self.now);
            self.answered += 1;
        }
    }

    fn heal(&mut self) {
        self.blocked.clear();
    }

    fn trouble(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let one = ids[self.rng.usize(..ids.len())];
        match self.rng.u8(0..15) {
            0 => {
                let victim = self.leader().filter(|_| self.rng.bool()).unwrap_or(one);
                self.crash(victim);
            }
            1 | 2 => ids.iter().for_each(|id| self.start(*id)),
            3 => self.split(&ids),
            4 => {
                let other = ids[self.rng.usize(..ids.len())];
                self.blocked.insert((one, other));
            }
            5 => {
                let victim = self.leader().unwrap_or(one);
                let inward = self.rng.bool();
                for id in ids {
                    self.blocked.insert(if inward { (id, victim) } else { (victim, id) });
                }
            }
            6 | 7 => self.heal(),
            8 => {
                let until = self.now + self.rng.u64(20..500);
                self.nodes.get_mut(&one).into_iter().for_each(|node| node.paused_until = until);
            }
            9 => {
                let tick_ms = self.rng.u64(5..20);
                self.nodes.get_mut(&one).into_iter().for_each(|node| node.tick_ms = tick_ms);
            }
            10 | 11 => self.nodes.get_mut(&one).into_iter().for_each(Node::save),
            12 => self.change_members(),
            13 => self.move_leader(one),
            _ => self.slow_disk = !self.slow_disk,
        }
    }

    fn split(&mut self, ids: &[NodeId]) {
        self.heal();
        let side: Vec<bool> = ids.iter().map(|_| self.rng.bool()).collect();
        for (at, a) in ids.iter().enumerate() {
            for (bt, b) in ids.iter().enumerate() {
                if side[at] != side[bt] {
                    self.blocked.insert((*a, *b));
                }
            }
        }
    }

    fn move_leader(&mut self, to: NodeId) {
        let Some(leader) = self.leader() else { return };
        if let Some(raft) = self.nodes.get_mut(&leader).and_then(|node| node.raft.as_mut()) {
            _ = raft.transfer_leader(to);
            self.after_input(leader);
        }
    }

    fn change_members(&mut self) {
        let Some(leader) = self.leader() else { return };
        let next = self.nodes.keys().next_back().map_or(1, |id| id + 1);
        let choice = self.rng.u8(0..4);
        let pick = self.rng.usize(..);
        let Some(raft) = self.nodes.get_mut(&leader).and_then(|node| node.raft.as_mut()) else { return };
        let conf = raft.conf().clone();
        let all: Vec<NodeId> = conf.ids().collect();
        let (kind, id) = match choice {
            0 if next <= MAX_MEMBERS => (ChangeKind::AddLearner, next),
            1 if next <= MAX_MEMBERS => (ChangeKind::AddVoter, next),
            2 => match conf.learners.first() {
                Some(id) => (ChangeKind::AddVoter, *id),
                None => return,
            },
            _ if conf.voters.len() > 1 => (ChangeKind::Remove, all[pick % all.len()]),
            _ => return,
        };
        let change = Change { kind, id, context: Bytes::new() };
        if raft.propose(0, Payload::Change(change)).is_ok() {
            if id == next {
                self.add_node(id, Disk::default());
            }
            self.after_input(leader);
        }
    }
}

/// What must hold at every moment.
impl Cluster {
    fn check_node(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(raft) = &node.raft else { return };
        let status = raft.status();
        assert!(status.commit >= node.commit_seen, "the commit index of {id} went back");
        assert!(status.applied <= status.commit);
        node.commit_seen = status.commit;
        if status.role != Role::Leader {
            return;
        }
        let first = *self.leaders.entry(status.term).or_insert_with(|| {
            self.elections += 1;
            // Leader completeness: what was committed in earlier terms is in the new leader's log.
            let (base, _) = raft.log_extent();
            let earlier = self.chosen.iter().zip(&self.chosen_in).filter(|(_, term)| **term < status.term);
            for (entry, _) in earlier {
                let there = entry.index < base || raft.term_of(entry.index) == Some(entry.term);
                assert!(there, "leader {id} of term {} lacks entry {}", status.term, entry.index);
            }
            id
        });
        assert_eq!(first, id, "two leaders in term {}", status.term);
    }

    /// State machine safety: all members apply the same.
    fn choose(&mut self, id: NodeId, entry: Entry) {
        let at = (entry.index - self.first_index) as usize;
        match self.chosen.get(at) {
            Some(chosen) => assert_eq!(*chosen, entry, "member {id} applies something else"),
            None => {
                assert_eq!(at, self.chosen.len(), "member {id} applies what nobody saw committed");
                let term = self.nodes[&id].raft.as_ref().map_or(entry.term, |raft| raft.status().term);
                self.chosen_in.push(term);
                self.chosen.push(entry);
                self.check_logs();
            }
        }
    }

    /// Log matching: where two logs have the same term at an index, they are the same up to there.
    fn check_logs(&mut self) {
        if self.rng.u8(0..16) != 0 {
            return;
        }
        let logs: Vec<(u64, Vec<Entry>)> = self
            .nodes
            .values()
            .filter_map(|node| node.raft.as_ref())
            .map(|raft| {
                let (base, _) = raft.log_extent();
                (base, raft.entries_after(base))
            })
            .collect();
        for (at, (base, log)) in logs.iter().enumerate() {
            for (other_base, other) in &logs[at + 1..] {
                let start = *base.max(other_base);
                let a = log.get((start - base) as usize..).unwrap_or_default();
                let b = other.get((start - other_base) as usize..).unwrap_or_default();
                if let Some(same) = a.iter().zip(b).rposition(|(a, b)| a.term == b.term) {
                    assert_eq!(a[..=same], b[..=same], "two logs with the same end differ");
                }
            }
        }
    }

    fn summary(&self) -> String {
        let of = |node: &Node| match &node.raft {
            Some(raft) => format!("\n{}: {:?} {:?}", node.id, raft.status(), raft.conf()),
            None => format!("\n{}: down", node.id),
        };
        self.nodes.values().map(of).collect()
    }

    fn check_converged(&self) {
        let leader = &self.nodes[&self.leader().unwrap_or_else(|| panic!("no leader"))];
        let raft = leader.raft.as_ref().unwrap_or_else(|| panic!("no core"));
        for id in raft.conf().ids() {
            let node = &self.nodes[&id];
            let other = node.raft.as_ref().unwrap_or_else(|| panic!("member {id} does not run"));
            assert_eq!(node.machine, leader.machine, "member {id} has another state");
            assert_eq!(other.conf(), raft.conf(), "member {id} knows other members");
        }
    }

    fn check_history(&self) {
        for key in 0..KEYS {
            let of_key = self.calls.values().filter(|(of, _)| *of == key);
            let mut calls: Vec<Call> = of_key.map(|(_, call)| *call).collect();
            calls.sort_by_key(|call| (call.begin, call.end));
            assert!(is_linearizable(&calls), "register {key} is not linearizable: {calls:#?}");
        }
    }
}
