//! The store of one member, in this process.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use async_trait::async_trait;
use base::{Clock, SharedClock};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};

use crate::checkpoint::Housekeeping;
use crate::core::{Command, Core, Parts, Reply};
use crate::disk::{DirDisk, Disk};
use crate::history::History;
use crate::keyspace::Keyspace;
use crate::lease::Moment;
use crate::log::{Recovered, SnapshotMeta, encode_snapshot, recover};
use crate::state::State;
use crate::txn_exec::check_limits;
use crate::{
    Durability, Entry, Error, HistoryLimits, Key, KeyRange, LeaseId, LeaseStatus, MAX_REQUEST_BYTES,
    RangeOptions, RangeResult, Revision, SNAPSHOT_QUEUE_CHUNKS, Setting, SnapshotStream, Store, Txn,
    TxnResult, WRITE_QUEUE, WatchOptions, Watcher,
};

/// How a store is kept.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory; made if it is not there.
    pub dir: PathBuf,
    /// How much of the past can be read and watched.
    pub history: HistoryLimits,
    /// Live keys and values may take this many bytes (etcd `--quota-backend-bytes`, by default 2 GiB).
    pub quota_bytes: usize,
    /// The size of one file of the log.
    pub segment_bytes: u64,
    /// A snapshot is written when this many bytes were logged since the last, or as many as the state has if that is
    /// more: so it costs no more than the log itself.
    pub checkpoint_bytes: u64,
}

impl Config {
    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            history: HistoryLimits::default(),
            quota_bytes: 2 << 30,
            segment_bytes: 16 << 20,
            checkpoint_bytes: 64 << 20,
        }
    }
}

/// See the module. Clones are the same store. It closes when the last one is dropped; [`Embedded::close`] waits for it.
#[derive(Clone)]
pub struct Embedded(Arc<Inner>);

struct Inner {
    keyspace: Arc<Keyspace>,
    /// Whoever has it is the writer: the thread, or a caller that finds it idle.
    core: Arc<Mutex<Core>>,
    pace: Arc<Pace>,
    asked: AtomicUsize,
    inbox: Arc<Inbox>,
    clock: SharedClock,
    durable: bool,
    health: Arc<Mutex<Option<Error>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Where commands wait for the writer.
struct Inbox {
    queue: Mutex<Queue>,
    filled: Condvar,
    places: Semaphore,
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<Command>,
    ended: bool,
}

impl Embedded {
    /// Opens a data directory, or makes a store in it. Blocks until all of it is in memory.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Format`], [`Error::Locked`], [`Error::Io`], [`Error::NoSpace`].
    pub fn open(config: &Config, clock: SharedClock) -> Result<Self, Error> {
        let disk = DirDisk::new(&config.dir).map_err(|source| Error::Io {
            operation: "create",
            file: config.dir.clone(),
            source: Arc::new(source),
        })?;
        Self::open_on(Arc::new(disk), config, clock)
    }

    /// The same on any disk; [`Config::dir`] is not looked at.
    pub fn open_on(disk: Arc<dyn Disk>, config: &Config, clock: SharedClock) -> Result<Self, Error> {
        let found = recovered(disk, config, Moment::of(&*clock))?;
        if found.state.settings.contains_key(crate::replicated::IDENTITY.as_bytes()) {
            return Err(Error::Invalid(
                "the data directory belongs to a member of a cluster: open it as one",
            ));
        }
        let (housekeeping, tidy) = Housekeeping::threaded().map_err(thread_error)?;
        let parts = parts(found, config, clock, housekeeping);
        Self::start(parts, vec![tidy])
    }

    /// A store in memory only: nothing survives it. For tests and trials.
    pub fn in_memory(clock: SharedClock) -> Result<Self, Error> {
        let state = State { revision: Revision(1), ..State::default() };
        let history = History::new(HistoryLimits::default(), Revision::ZERO);
        let parts = Parts {
            keyspace: Keyspace::new(state, history),
            log: None,
            meta: SnapshotMeta::default(),
            closed: true,
            clock,
            housekeeping: Housekeeping::inline(),
            quota_bytes: usize::MAX,
            checkpoint_bytes: u64::MAX,
        };
        Self::start(parts, Vec::new())
    }

    fn start(parts: Parts, mut threads: Vec<JoinHandle<()>>) -> Result<Self, Error> {
        let (keyspace, clock, durable) = (parts.keyspace.clone(), parts.clock.clone(), parts.log.is_some());
        let health = Arc::new(Mutex::new(None));
        let core = Arc::new(Mutex::new(Core::new(parts, health.clone())));
        let pace = Arc::new(Pace::default());
        let places = Semaphore::new(WRITE_QUEUE);
        let inbox = Arc::new(Inbox { queue: Mutex::default(), filled: Condvar::new(), places });
        let writer = std::thread::Builder::new().name("store-write".to_owned());
        let (its_core, its_pace) = (core.clone(), pace.clone());
        let (its_inbox, its_clock) = (inbox.clone(), clock.clone());
        let writer = writer
            .spawn(move || write(&its_core, &its_pace, &its_inbox, &*its_clock))
            .map_err(thread_error)?;
        threads.insert(0, writer);
        let threads = Mutex::new(threads);
        let asked = AtomicUsize::new(0);
        Ok(Self(Arc::new(Inner { keyspace, core, pace, asked, inbox, clock, durable, health, threads })))
    }

    /// Does what was asked for before, makes all of it durable, and ends. Calls after it fail with
    /// [`Error::Closed`]; watches end with it.
    pub async fn close(&self) -> Result<(), Error> {
        let result = self.ask(Command::Close).await;
        let threads = std::mem::take(&mut *self.0.threads.lock());
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| _ = thread.join()));
        // A thread that panicked has ended, too.
        let _ = joined.await;
        match result {
            Err(Error::Closed) => Ok(()),
            other => other,
        }
    }

    /// A setting; version zero if it was never set.
    pub fn setting(&self, name: &str) -> Setting {
        self.0.keyspace.state().settings.get(name.as_bytes()).cloned().unwrap_or_default()
    }

    /// Sets a setting whose version is `expected`; gives the new version.
    ///
    /// # Errors
    /// [`Error::SettingChanged`], [`Error::TooLarge`].
    pub async fn set_setting(&self, name: &str, expected: u64, value: Bytes) -> Result<u64, Error> {
        let (size, limit) = (name.len() + value.len(), MAX_REQUEST_BYTES);
        if size > limit {
            return Err(Error::TooLarge { what: "setting", size, limit });
        }
        self.ask(|reply| Command::Setting(Key::from(name), expected, value, reply)).await
    }

    /// Has a snapshot written in the background, so that the log before it can go.
    pub async fn checkpoint(&self) -> Result<(), Error> {
        self.ask(Command::Checkpoint).await
    }

    /// Bytes of keys and values with their history, and of the newest ones alone.
    pub fn size_bytes(&self) -> (u64, u64) {
        let newest = self.0.keyspace.state().bytes as u64;
        (newest + self.0.keyspace.history_bytes() as u64, newest)
    }

    /// The newest state as the content of a snapshot file. A thread encodes it as fast as it is taken.
    pub fn snapshot_stream(&self) -> Result<SnapshotStream, Error> {
        let state = State::clone(&self.0.keyspace.state());
        stream_snapshot(state, self.0.keyspace.compact_revision())
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Error> {
        let inbox = &self.0.inbox;
        let (reply, answer) = oneshot::channel();
        let asked = Asked::new(&self.0.asked);
        if let Err(command) = self.do_now(command(reply), asked.alone) {
            inbox.places.acquire().await.map_err(|_| Error::Closed)?.forget();
            inbox.push(command);
        }
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Does the command here if nobody else asks for one and it will not take long: the change to another thread and
    /// back costs as much as the disk does. Gives it back otherwise, to become part of a batch.
    fn do_now(&self, command: Command, alone: bool) -> Result<(), Command> {
        // Anything else may have the thread do something sooner than it is waiting to.
        let synced = matches!(&command, Command::Txn(txn, _) if txn.durability == Durability::Synced);
        if !(alone && synced && self.0.durable && self.0.pace.is_quick() && may_block()) {
            return Err(command);
        }
        let Some(mut core) = self.0.core.try_lock() else { return Err(command) };
        if !self.0.inbox.queue.lock().commands.is_empty() {
            return Err(command);
        }
        self.0.pace.step(&mut core, &mut VecDeque::from([command]));
        Ok(())
    }
}

/// A question that has no answer yet.
struct Asked<'a> {
    all: &'a AtomicUsize,
    /// There was no other one.
    alone: bool,
}

impl<'a> Asked<'a> {
    fn new(all: &'a AtomicUsize) -> Self {
        Self { all, alone: all.fetch_add(1, Ordering::Relaxed) == 0 }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether other threads go on with this one's tasks while it waits for the disk.
fn may_block() -> bool {
    tokio::runtime::Handle::try_current().is_ok_and(|runtime| {
        runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread
            && runtime.metrics().num_workers() > 1
    })
}

/// How long the last batches took, which says how long the next one may.
#[derive(Default)]
struct Pace {
    /// A moving average, in microseconds.
    batch_us: AtomicU64,
}

impl Pace {
    /// A batch that takes this long keeps its thread from other work too long. A file system that keeps its journal
    /// on an SSD takes a fifth.
    const QUICK_US: u64 = 500;
    /// The share of the newest batch in the average: one in so many.
    const WEIGHT: u64 = 8;

    fn is_quick(&self) -> bool {
        self.batch_us.load(Ordering::Relaxed) < Self::QUICK_US
    }

    /// Does one batch. After a panic in it nobody knows what was done, so it is the last.
    fn step(&self, core: &mut Core, commands: &mut VecDeque<Command>) {
        let started = Instant::now();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| core.step(commands))) {
            core.give_up();
            resume_unwind(panic);
        }
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let average = self.batch_us.load(Ordering::Relaxed);
        let newer =
            average - average / Self::WEIGHT + took_us.min(Self::QUICK_US * Self::WEIGHT) / Self::WEIGHT;
        self.batch_us.store(newer, Ordering::Relaxed);
    }
}

/// What is in a data directory, which is made if it is not there.
pub(crate) fn recovered(disk: Arc<dyn Disk>, config: &Config, now: Moment) -> Result<Recovered, Error> {
    recover(disk, config.segment_bytes, config.history, now)
}

/// The parts of a core over what was found on disk.
pub(crate) fn parts(
    found: Recovered,
    config: &Config,
    clock: SharedClock,
    housekeeping: Housekeeping,
) -> Parts {
    Parts {
        keyspace: Keyspace::new(found.state, found.history),
        log: Some(found.log),
        meta: found.meta,
        closed: found.closed,
        clock,
        housekeeping,
        quota_bytes: config.quota_bytes,
        checkpoint_bytes: config.checkpoint_bytes,
    }
}

/// A state as the content of a snapshot file; its history up to `compacted` was given up.
pub(crate) fn stream_snapshot(state: State, compacted: Revision) -> Result<SnapshotStream, Error> {
    let (sender, chunks) = tokio::sync::mpsc::channel(SNAPSHOT_QUEUE_CHUNKS);
    let revision = state.revision;
    // Lengths, revisions and checksums are a few dozen bytes per entry.
    let total_bytes = (state.bytes + state.map.len() * 16) as u64;
    let meta = SnapshotMeta { seq: 0, compacted, relaxed: false };
    let encode = move || {
        // A reader that went away ends it as well.
        let ended = encode_snapshot(&state, meta, &mut |bytes| {
            sender.blocking_send(Ok(Bytes::from(bytes))).map_err(|_| Error::Closed)
        });
        if let Err(error) = ended {
            _ = sender.blocking_send(Err(error));
        }
    };
    let thread = std::thread::Builder::new().name("store-snapshot".to_owned());
    // The thread ends with the stream that it feeds.
    thread.spawn(encode).map_err(thread_error)?;
    Ok(SnapshotStream { revision, total_bytes, chunks })
}

pub(crate) fn thread_error(source: std::io::Error) -> Error {
    Error::Io { operation: "start a thread for", file: PathBuf::from("the store"), source: Arc::new(source) }
}

impl Inbox {
    fn push(&self, command: Command) {
        let mut queue = self.queue.lock();
        if queue.ended {
            drop(queue);
            return command.refuse(Error::Closed);
        }
        queue.commands.push_back(command);
        drop(queue);
        self.filled.notify_one();
    }
}

/// The writer's thread.
fn write(core: &Mutex<Core>, pace: &Pace, inbox: &Inbox, clock: &dyn Clock) {
    let mut commands = VecDeque::new();
    loop {
        // What callers do meanwhile can only move it further away.
        let deadline = {
            let core = core.lock();
            if core.is_closed() {
                break;
            }
            core.deadline()
        };
        {
            let mut queue = inbox.queue.lock();
            while queue.commands.is_empty() && commands.is_empty() {
                let Some(deadline) = deadline else {
                    inbox.filled.wait(&mut queue);
                    continue;
                };
                let left = deadline.saturating_duration_since(clock.instant());
                if left.is_zero() || inbox.filled.wait_for(&mut queue, left).timed_out() {
                    break;
                }
            }
            inbox.places.add_permits(queue.commands.len());
            commands.append(&mut queue.commands);
        }
        pace.step(&mut core.lock(), &mut commands);
    }
    let mut queue = inbox.queue.lock();
    queue.ended = true;
    inbox.places.close();
    commands.append(&mut queue.commands);
    drop(queue);
    commands.into_iter().for_each(|command| command.refuse(Error::Closed));
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.inbox.push(Command::Close(oneshot::channel().0));
    }
}

#[async_trait]
impl Store for Embedded {
    fn range(&self, range: &KeyRange, options: RangeOptions) -> Result<RangeResult, Error> {
        self.0.keyspace.range(range, options)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Arc<Entry>>, Error> {
        Ok(self.0.keyspace.get(key))
    }

    fn current_revision(&self) -> Revision {
        self.0.keyspace.state().revision
    }

    fn compact_revision(&self) -> Revision {
        self.0.keyspace.compact_revision()
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        check_limits(&txn)?;
        self.ask(|reply| Command::Txn(txn, reply)).await
    }

    fn watch(&self, range: KeyRange, options: WatchOptions) -> Result<Watcher, Error> {
        Keyspace::watch(&self.0.keyspace, range, options)
    }

    async fn wait_for(&self, revision: Revision) -> Result<(), Error> {
        self.0.keyspace.wait_for(revision).await
    }

    async fn read_barrier(&self) -> Result<Revision, Error> {
        // Writes are shown before they are answered.
        Ok(self.current_revision())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.ask(|reply| Command::Compact(revision, reply)).await
    }

    async fn lease_grant(&self, id: LeaseId, ttl_s: i64) -> Result<LeaseStatus, Error> {
        self.ask(|reply| Command::LeaseGrant(id, ttl_s, reply)).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, Error> {
        self.ask(|reply| Command::LeaseRevoke(id, reply)).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        self.ask(|reply| Command::LeaseKeepAlive(id, reply)).await
    }

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        let state = self.0.keyspace.state();
        state.leases.status(id, self.0.clock.instant()).ok_or(Error::LeaseNotFound(id))
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        Ok(self.0.keyspace.state().leases.ids())
    }

    fn is_durable(&self) -> bool {
        self.0.durable && self.0.health.lock().is_none()
    }

    fn health(&self) -> Result<(), Error> {
        self.0.health.lock().clone().map_or(Ok(()), Err)
    }
}
