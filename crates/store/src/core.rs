//! The writer: takes commands in batches, puts each batch into the log as one frame, syncs, and only then shows it to
//! readers and answers. No thread and no clock of its own, so that a test can take it step by step.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use base::SharedClock;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::checkpoint::{Checkpoint, Housekeeping};
use crate::history::Change;
use crate::keyspace::Keyspace;
use crate::lease::Moment;
use crate::log::{Log, Record, SnapshotMeta, encode_change, encode_record};
use crate::state::State;
use crate::txn_exec::{Execution, revoke};
use crate::{
    Durability, Error, Key, LeaseId, LeaseStatus, MAX_LEASE_TTL_S, RELAXED_MAX_UNSYNCED, RELAXED_SYNC,
    Revision, Setting, Txn, TxnResult,
};

/// Commands in one batch.
const MAX_BATCH_COMMANDS: usize = 1024;
/// A batch takes no further command when its frame is this large.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// Leases that may end in one batch.
const MAX_BATCH_EXPIRIES: usize = 256;

/// A request to the writer.
pub(crate) enum Command {
    Txn(Txn, Reply<TxnResult>),
    LeaseGrant(LeaseId, i64, Reply<LeaseStatus>),
    LeaseRevoke(LeaseId, Reply<Revision>),
    LeaseKeepAlive(LeaseId, Reply<LeaseStatus>),
    Compact(Revision, Reply<()>),
    /// Sets a setting that has this version.
    Setting(Key, u64, Bytes, Reply<u64>),
    /// Writes a snapshot soon, so that the log before it can go.
    Checkpoint(Reply<()>),
    /// The last command: everything before it is answered, nothing after it.
    Close(Reply<()>),
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// An answer that waits for the disk.
enum Answer {
    Txn(Reply<TxnResult>, TxnResult),
    Lease(Reply<LeaseStatus>, LeaseStatus),
    Revision(Reply<Revision>, Revision),
    Done(Reply<()>),
    Version(Reply<u64>, u64),
}

impl Answer {
    fn give(self) {
        // Nobody may be waiting any more.
        match self {
            Self::Txn(reply, result) => _ = reply.send(Ok(result)),
            Self::Lease(reply, status) => _ = reply.send(Ok(status)),
            Self::Revision(reply, revision) => _ = reply.send(Ok(revision)),
            Self::Done(reply) => _ = reply.send(Ok(())),
            Self::Version(reply, version) => _ = reply.send(Ok(version)),
        }
    }

    fn refuse(self, error: Error) {
        match self {
            Self::Txn(reply, _) => _ = reply.send(Err(error)),
            Self::Lease(reply, _) => _ = reply.send(Err(error)),
            Self::Revision(reply, _) => _ = reply.send(Err(error)),
            Self::Done(reply) => _ = reply.send(Err(error)),
            Self::Version(reply, _) => _ = reply.send(Err(error)),
        }
    }
}

impl Command {
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Txn(_, reply) => _ = reply.send(Err(error)),
            Self::LeaseGrant(_, _, reply) | Self::LeaseKeepAlive(_, reply) => _ = reply.send(Err(error)),
            Self::LeaseRevoke(_, reply) => _ = reply.send(Err(error)),
            Self::Setting(.., reply) => _ = reply.send(Err(error)),
            Self::Compact(_, reply) | Self::Checkpoint(reply) | Self::Close(reply) => {
                _ = reply.send(Err(error))
            }
        }
    }
}

/// What a batch is going to do, while it is put together.
#[derive(Default)]
struct Batch {
    payload: Vec<u8>,
    changes: Vec<Change>,
    answers: Vec<Answer>,
    compact: Option<Revision>,
    /// Something in it must be on disk before it is answered.
    strict: bool,
    closing: bool,
}

impl Batch {
    fn record(&mut self, record: &Record) {
        encode_record(&mut self.payload, record);
    }

    fn change(&mut self, change: Change) {
        encode_change(&mut self.payload, &change);
        self.changes.push(change);
    }
}

/// What a core is made of.
pub(crate) struct Parts {
    pub(crate) keyspace: Arc<Keyspace>,
    /// None: the store is in memory only.
    pub(crate) log: Option<Log>,
    pub(crate) meta: SnapshotMeta,
    pub(crate) closed: bool,
    pub(crate) clock: SharedClock,
    pub(crate) housekeeping: Housekeeping,
    pub(crate) quota_bytes: usize,
    pub(crate) checkpoint_bytes: u64,
}

/// See the module.
pub(crate) struct Core {
    parts: Parts,
    /// The state with all batches in it; what readers see, but while a batch is being done.
    state: State,
    /// Since when, and how many, relaxed revisions are not on disk.
    unsynced: Option<(Instant, u64)>,
    /// Where [`Log::appended`] was at the last checkpoint.
    checkpointed: u64,
    health: Arc<Mutex<Option<Error>>>,
    failed: Option<Error>,
    closed: bool,
    checkpoint_asked: bool,
}

impl Core {
    pub(crate) fn new(parts: Parts, health: Arc<Mutex<Option<Error>>>) -> Self {
        let state = State::clone(&parts.keyspace.state());
        let (failed, closed, checkpoint_asked) = (None, false, false);
        Self { parts, state, unsynced: None, checkpointed: 0, health, failed, closed, checkpoint_asked }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// When [`Core::step`] has something to do without a command, on the clock's [`base::Clock::instant`].
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.failed.is_some() {
            return None;
        }
        let sync = self.unsynced.map(|(since, _)| since + RELAXED_SYNC);
        sync.into_iter().chain(self.state.leases.next_end()).min()
    }

    /// Does one batch: as many of the commands as fit, and what is due by time.
    pub(crate) fn step(&mut self, commands: &mut VecDeque<Command>) {
        if let Some(error) = &self.failed {
            let closing = commands.iter().any(|command| matches!(command, Command::Close(_)));
            commands.drain(..).for_each(|command| command.refuse(error.clone()));
            if closing {
                self.end();
            }
            return;
        }
        let now = Moment::of(&*self.parts.clock);
        let mut batch = Batch::default();
        self.expire(now, &mut batch);
        let mut taken = 0;
        while taken < MAX_BATCH_COMMANDS && batch.payload.len() < MAX_BATCH_BYTES && !batch.closing {
            let Some(command) = commands.pop_front() else { break };
            taken += 1;
            self.execute(command, now, &mut batch);
        }
        match self.persist(now, &mut batch) {
            Ok(()) => self.finish(batch, now),
            Err(error) => self.fail(batch, error),
        }
        if !self.closed {
            self.housekeep();
        }
    }

    fn expire(&mut self, now: Moment, batch: &mut Batch) {
        for _ in 0..MAX_BATCH_EXPIRIES {
            let Some(id) = self.state.leases.expired(now.instant) else { return };
            self.revoke(id, batch);
        }
    }

    fn revoke(&mut self, id: LeaseId, batch: &mut Batch) -> bool {
        let Some(change) = revoke(&mut self.state, id) else { return false };
        batch.strict = true;
        // The deletions come first: a replay would not find the keys of a lease that is gone.
        change.into_iter().for_each(|change| batch.change(change));
        batch.record(&Record::LeaseRevoke { id });
        true
    }

    fn execute(&mut self, command: Command, now: Moment, batch: &mut Batch) {
        match command {
            Command::Txn(txn, reply) => {
                let strict = txn.durability == Durability::Synced;
                let (keyspace, quota) = (self.parts.keyspace.clone(), self.parts.quota_bytes);
                match Execution::run(&mut self.state, &keyspace, quota, txn) {
                    Ok((result, change)) => {
                        batch.strict |= strict && change.is_some();
                        change.into_iter().for_each(|change| batch.change(change));
                        batch.answers.push(Answer::Txn(reply, result));
                    }
                    Err(error) => _ = reply.send(Err(error)),
                }
            }
            Command::LeaseGrant(id, ttl_s, reply) => self.grant(id, ttl_s, reply, now, batch),
            Command::LeaseRevoke(id, reply) => {
                if self.revoke(id, batch) {
                    batch.answers.push(Answer::Revision(reply, self.state.revision));
                } else {
                    _ = reply.send(Err(Error::LeaseNotFound(id)));
                }
            }
            Command::LeaseKeepAlive(id, reply) => match self.state.leases.renew(id, now) {
                Some(expires_ms) => {
                    batch.record(&Record::LeaseRenew { id, expires_ms });
                    let status = self.state.leases.status(id, now.instant).unwrap_or_default();
                    batch.answers.push(Answer::Lease(reply, status));
                }
                None => _ = reply.send(Err(Error::LeaseNotFound(id))),
            },
            Command::Compact(revision, reply) => self.compact(revision, reply, batch),
            Command::Setting(name, expected, value, reply) => {
                self.set_setting(name, expected, value, reply, batch);
            }
            Command::Checkpoint(reply) => {
                self.checkpoint_asked = true;
                batch.answers.push(Answer::Done(reply));
            }
            Command::Close(reply) => {
                batch.closing = true;
                batch.answers.push(Answer::Done(reply));
            }
        }
    }

    fn grant(&mut self, id: LeaseId, ttl_s: i64, reply: Reply<LeaseStatus>, now: Moment, batch: &mut Batch) {
        if ttl_s > MAX_LEASE_TTL_S {
            let (size, limit) = (ttl_s as usize, MAX_LEASE_TTL_S as usize);
            _ = reply.send(Err(Error::TooLarge { what: "lease time to live in seconds", size, limit }));
            return;
        }
        if !id.is_none() && self.state.leases.contains(id) {
            _ = reply.send(Err(Error::LeaseExists(id)));
            return;
        }
        let id = if id.is_none() { self.free_lease_id(now) } else { id };
        let ttl_s = ttl_s.max(1);
        let expires_ms = self.state.leases.grant(id, ttl_s, now);
        batch.record(&Record::LeaseGrant { id, ttl_s, expires_ms });
        batch.strict = true;
        let status = self.state.leases.status(id, now.instant).unwrap_or_default();
        batch.answers.push(Answer::Lease(reply, status));
    }

    fn set_setting(&mut self, name: Key, expected: u64, value: Bytes, reply: Reply<u64>, batch: &mut Batch) {
        if self.state.settings.get(&name).map_or(0, |setting| setting.version) != expected {
            _ = reply.send(Err(Error::SettingChanged));
            return;
        }
        let version = expected + 1;
        batch.record(&Record::Setting { name: name.clone(), version, value: value.clone() });
        batch.strict = true;
        self.state.settings.insert(name, Setting { version, value });
        batch.answers.push(Answer::Version(reply, version));
    }

    fn free_lease_id(&self, now: Moment) -> LeaseId {
        let mut id = LeaseId(((now.wall_ms << 16) & i64::MAX).max(1));
        while self.state.leases.contains(id) {
            id.0 = (id.0 + 1).max(1);
        }
        id
    }

    fn compact(&mut self, revision: Revision, reply: Reply<()>, batch: &mut Batch) {
        let compact_revision = self.parts.keyspace.compact_revision().max(batch.compact.unwrap_or_default());
        if revision > self.state.revision {
            _ = reply.send(Err(Error::FutureRevision { current: self.state.revision }));
        } else if revision <= compact_revision {
            _ = reply.send(Err(Error::Compacted { compact_revision }));
        } else {
            batch.record(&Record::Compact { revision });
            batch.strict = true;
            batch.compact = Some(revision);
            batch.answers.push(Answer::Done(reply));
        }
    }

    /// Brings the batch to the disk as far as its answers need it.
    fn persist(&mut self, now: Moment, batch: &mut Batch) -> Result<(), Error> {
        let Some(log) = &mut self.parts.log else { return Ok(()) };
        let dirty = !batch.payload.is_empty();
        // From the first relaxed write on an unclean stop may lose answered writes; that itself must not be lost.
        let mark = !batch.changes.is_empty() && !batch.strict && !self.parts.meta.relaxed;
        if mark {
            encode_record(&mut batch.payload, &Record::Relaxed);
        }
        if batch.closing && (dirty || !self.parts.closed) {
            self.parts.meta.relaxed = false;
            batch.record(&Record::Close);
        }
        if !batch.payload.is_empty() {
            log.append(&batch.payload)?;
            self.parts.closed = batch.closing;
        }
        let pending = self.unsynced.map_or(0, |(_, count)| count) + batch.changes.len() as u64;
        let due = self.unsynced.is_some_and(|(since, _)| now.instant >= since + RELAXED_SYNC);
        if batch.strict || mark || batch.closing || due || pending >= RELAXED_MAX_UNSYNCED {
            log.sync()?;
        }
        self.parts.meta.relaxed |= mark;
        self.unsynced = match self.unsynced {
            _ if log.is_synced() => None,
            Some((since, _)) => Some((since, pending)),
            None => Some((now.instant, pending)),
        };
        Ok(())
    }

    /// Shows the batch to readers, answers, and wakes the watchers.
    fn finish(&mut self, batch: Batch, now: Moment) {
        if !batch.changes.is_empty() || !batch.payload.is_empty() {
            self.parts.keyspace.publish(self.state.clone(), &batch.changes, now.instant);
            *self.health.lock() = None;
        }
        if let Some(revision) = batch.compact {
            self.parts.keyspace.compact(revision);
            self.parts.meta.compacted = revision;
        }
        batch.answers.into_iter().for_each(Answer::give);
        if !batch.changes.is_empty() {
            self.parts.keyspace.notify(&batch.changes, self.state.revision);
        }
        if batch.closing {
            self.end();
        }
    }

    /// Takes no further command: a panic has left the state between two batches.
    pub(crate) fn give_up(&mut self) {
        let error = Error::Failed(Arc::new(Error::Closed));
        self.failed = Some(error.clone());
        *self.health.lock() = Some(error);
    }

    fn end(&mut self) {
        self.closed = true;
        self.failed = Some(Error::Closed);
        *self.health.lock() = Some(Error::Closed);
        self.parts.keyspace.hub.close();
        // Gives the directory's lock up, and lets the thread for housekeeping end.
        self.parts.log = None;
        self.parts.housekeeping = Housekeeping::inline();
    }

    /// Nothing of the batch is shown. A full disk is found before anything is written, so the next batch may try
    /// again; after any other error nobody knows what is on the disk, and no write is taken any more.
    fn fail(&mut self, batch: Batch, error: Error) {
        tracing::error!(%error, "the store could not write");
        self.state = State::clone(&self.parts.keyspace.state());
        if !matches!(error, Error::NoSpace(_) | Error::TooLarge { .. }) {
            self.failed = Some(Error::Failed(Arc::new(error.clone())));
        }
        *self.health.lock() = Some(error.clone());
        let closing = batch.closing;
        batch.answers.into_iter().for_each(|answer| answer.refuse(error.clone()));
        if closing {
            self.end();
        }
    }

    fn housekeep(&mut self) {
        let Some(log) = &mut self.parts.log else { return };
        if self.failed.is_some() || self.parts.housekeeping.is_busy() {
            return;
        }
        let threshold = self.parts.checkpoint_bytes.max(self.state.bytes as u64);
        let written = log.appended() - self.checkpointed;
        let asked = std::mem::take(&mut self.checkpoint_asked) && written > 0;
        if written < threshold && !asked {
            if log.wants_spare() {
                self.parts.housekeeping.prepare(log.spare().clone());
            }
            return;
        }
        self.checkpointed = log.appended();
        // From here on in a new segment, so that all before it can go when the snapshot is there.
        if let Err(error) = log.rotate(0) {
            self.fail(Batch::default(), error);
            return;
        }
        self.unsynced = None;
        let meta = SnapshotMeta { seq: log.seq(), ..self.parts.meta };
        self.parts.housekeeping.checkpoint(Checkpoint {
            disk: log.disk().clone(),
            spare: log.spare().clone(),
            state: self.state.clone(),
            meta,
            first_segment: log.segment(),
        });
    }
}
