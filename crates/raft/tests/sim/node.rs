//! A member of the simulated cluster: the core with its disk, taken through one step of I/O at a time.

use std::collections::HashMap;

use bytes::Bytes;
use fastrand::Rng;
use raft::{Body, Config, Entry, Message, NodeId, Payload, Raft, ReadState, Ready};

use crate::disk::Disk;
use crate::machine::{Command, Machine};

/// Bytes of a snapshot in one message.
const CHUNK: usize = 5;
/// Applied entries that are kept for others when a state is saved.
const KEEP: u64 = 4;

/// What became of a client's call.
pub enum Outcome {
    /// It took effect; a swap may have found another value.
    Done { call: u64, fits: bool },
    /// A read found a value.
    Read { call: u64, value: u64 },
    /// It has no effect and never will.
    Refused { call: u64 },
}

/// What a step gives to the outside.
#[derive(Default)]
pub struct Effects {
    pub messages: Vec<Message>,
    pub outcomes: Vec<Outcome>,
    pub applied: Vec<Entry>,
}

/// Where in a [`Ready`] the member is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Send,
    Write,
    Sync,
    Confirm,
    Apply,
}

/// See the module.
pub struct Node {
    pub id: NodeId,
    pub raft: Option<Raft>,
    pub disk: Disk,
    pub machine: Machine,
    work: Option<(Box<Ready>, Stage)>,
    /// Keys of reads that were asked for, and reads that wait for their index.
    reads: HashMap<u64, u64>,
    confirmed: Vec<ReadState>,
    incoming: Vec<u8>,
    outgoing: HashMap<NodeId, (u64, Bytes)>,
    /// Calls whose effect this member tells the client.
    pub calls: HashMap<u64, ()>,
    pub tick_ms: u64,
    pub election_ticks: u32,
    /// Events of an earlier life are not its own.
    pub life: u64,
    pub paused_until: u64,
    pub commit_seen: u64,
}

impl Node {
    pub fn new(id: NodeId, disk: Disk) -> Self {
        Self {
            id,
            raft: None,
            disk,
            machine: Machine::default(),
            work: None,
            reads: HashMap::new(),
            confirmed: Vec::new(),
            incoming: Vec::new(),
            outgoing: HashMap::new(),
            calls: HashMap::new(),
            tick_ms: 10,
            election_ticks: 10,
            life: 0,
            paused_until: 0,
            commit_seen: 0,
        }
    }

    pub fn start(&mut self, rng: &mut Rng) {
        let (restored, state) = self.disk.restore();
        let config = Config {
            election_ticks: self.election_ticks,
            max_append_bytes: 100,
            max_inflight: 4,
            max_inflight_bytes: 300,
            ..Config::new(self.id, rng.u64(..))
        };
        self.machine = Machine::decode(state);
        assert_eq!(self.machine.applied, restored.snapshot.index);
        self.raft = Some(Raft::new(config, restored));
        self.life += 1;
        self.paused_until = 0;
        self.commit_seen = 0;
    }

    pub fn crash(&mut self, rng: &mut Rng) {
        let id = self.id;
        let (life, tick_ms, election_ticks) = (self.life + 1, self.tick_ms, self.election_ticks);
        let mut disk = std::mem::take(&mut self.disk);
        disk.crash(rng);
        *self = Self { life, tick_ms, election_ticks, ..Self::new(id, disk) };
    }

    pub fn read(&mut self, call: u64, key: u64) -> bool {
        let asked = self.raft.as_mut().is_some_and(|raft| raft.read_index(call).is_ok());
        if asked {
            self.reads.insert(call, key);
        }
        asked
    }

    pub fn propose(&mut self, command: Command) -> bool {
        let payload = Payload::Data(command.encode());
        let taken = self.raft.as_mut().is_some_and(|raft| raft.propose(command.call, payload).is_ok());
        if taken {
            self.calls.insert(command.call, ());
        }
        taken
    }

    pub fn is_idle(&self) -> bool {
        self.work.is_none()
    }

    /// Takes up new work, or does the next step of what there is. Whether something was done.
    pub fn step(&mut self, effects: &mut Effects) -> bool {
        let Some(raft) = &mut self.raft else { return false };
        if self.work.is_none() {
            self.work = raft.ready().map(|ready| (Box::new(ready), Stage::Send));
            return self.work.is_some();
        }
        let Some((mut ready, stage)) = self.work.take() else { return false };
        let next = match stage {
            Stage::Send => {
                for message in std::mem::take(&mut ready.messages) {
                    effects.messages.extend(self.fill(message));
                }
                Some(Stage::Write)
            }
            Stage::Write => {
                let sync = ready.must_sync();
                self.disk.write(ready.hard_state.take(), std::mem::take(&mut ready.entries), ready.commit);
                Some(if sync { Stage::Sync } else { Stage::Confirm })
            }
            Stage::Sync => {
                self.disk.sync();
                Some(Stage::Confirm)
            }
            Stage::Confirm => {
                raft.persisted(ready.number);
                effects.messages.append(&mut ready.after);
                Some(Stage::Apply)
            }
            Stage::Apply => {
                self.apply(&mut ready, effects);
                None
            }
        };
        self.work = next.map(|stage| (ready, stage));
        true
    }

    fn apply(&mut self, ready: &mut Ready, effects: &mut Effects) {
        for entry in std::mem::take(&mut ready.committed) {
            self.apply_one(&entry, effects);
            effects.applied.push(entry);
        }
        for id in &ready.refused {
            if self.calls.remove(id).is_some() {
                effects.outcomes.push(Outcome::Refused { call: *id });
            }
        }
        for chunk in std::mem::take(&mut ready.chunks) {
            if chunk.number == 0 {
                self.incoming.clear();
            }
            self.incoming.extend_from_slice(&chunk.data);
        }
        if let (Some(meta), Some(raft)) = (&ready.install, &mut self.raft) {
            let state = Bytes::from(std::mem::take(&mut self.incoming));
            self.machine = Machine::decode(state.clone());
            assert_eq!(self.machine.applied, meta.index, "the pieces make another state");
            self.disk.save(meta.clone(), state);
            raft.installed(meta);
        }
        self.confirmed.append(&mut ready.reads);
        let applied = self.machine.applied;
        let (due, later) =
            std::mem::take(&mut self.confirmed).into_iter().partition(|read| read.index <= applied);
        self.confirmed = later;
        for read in due {
            if let Some(key) = self.reads.remove(&read.id) {
                let value = self.machine.registers.get(&key).copied().unwrap_or(0);
                effects.outcomes.push(Outcome::Read { call: read.id, value });
            }
        }
    }

    fn apply_one(&mut self, entry: &Entry, effects: &mut Effects) {
        let Some(raft) = &mut self.raft else { return };
        assert_eq!(entry.index, self.machine.applied + 1, "entries are applied in order");
        self.machine.applied = entry.index;
        match &entry.payload {
            Payload::Empty => {}
            Payload::Data(data) => {
                let command = Command::decode(data);
                let fits = self.machine.apply(command);
                if self.calls.remove(&command.call).is_some() {
                    effects.outcomes.push(Outcome::Done { call: command.call, fits });
                }
            }
            Payload::Change(change) => _ = raft.apply_change(change),
        }
        raft.applied(entry.index);
    }

    /// Puts the piece of the state into a message that asks for one. None: the state has gone on since.
    fn fill(&mut self, message: Message) -> Option<Message> {
        let Body::Snapshot { meta, chunk, .. } = &message.body else { return Some(message) };
        let raft = self.raft.as_mut()?;
        if *chunk == 0 && meta.index == self.machine.applied {
            self.outgoing.insert(message.to, (meta.index, self.machine.encode()));
        }
        let Some((_, state)) = self.outgoing.get(&message.to).filter(|(index, _)| *index == meta.index)
        else {
            raft.snapshot_failed(message.to);
            return None;
        };
        let start = (*chunk as usize * CHUNK).min(state.len());
        let end = (start + CHUNK).min(state.len());
        let body = Body::Snapshot {
            meta: meta.clone(),
            chunk: *chunk,
            data: state.slice(start..end),
            last: end == state.len(),
        };
        Some(Message { body, ..message })
    }

    /// Saves the state and forgets most of the log that led to it.
    pub fn save(&mut self) {
        let Some(raft) = &mut self.raft else { return };
        if self.work.is_some() {
            return;
        }
        let Some(meta) = raft.snapshot_meta() else { return };
        if meta.index == self.machine.applied {
            self.disk.save(meta, self.machine.encode());
            raft.compact(self.machine.applied.saturating_sub(KEEP));
        }
    }
}
