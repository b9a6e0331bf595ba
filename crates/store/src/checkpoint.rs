//! Work on the disk that the writer does not wait for: snapshots, and segments made ahead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use crate::Error;
use crate::disk::Disk;
use crate::log::{SnapshotMeta, Spare, write_snapshot};
use crate::state::State;

/// A state to be written down.
pub(crate) struct Checkpoint {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) spare: Spare,
    pub(crate) state: State,
    pub(crate) meta: SnapshotMeta,
    /// Segments below this one are superfluous once the snapshot is there.
    pub(crate) first_segment: u64,
}

enum Job {
    Prepare(Spare),
    Checkpoint(Box<Checkpoint>),
}

impl Job {
    fn run(self) -> Result<(), Error> {
        match self {
            Self::Prepare(spare) => spare.prepare(),
            Self::Checkpoint(job) => {
                write_snapshot(&*job.disk, &job.state, job.meta)?;
                job.spare.retire_below(job.first_segment)
            }
        }
    }

    /// A failure leaves the log as it is, only longer; the next checkpoint tries again.
    fn run_and_log(self) {
        if let Err(error) = self.run() {
            tracing::error!(%error, "the store could not tidy its log");
        }
    }
}

/// Who does the work: a thread that does one job at a time, or in tests the caller.
pub(crate) struct Housekeeping {
    worker: Option<SyncSender<Job>>,
    busy: Arc<AtomicBool>,
}

impl Housekeeping {
    /// Work is done when it is given.
    pub(crate) fn inline() -> Self {
        Self { worker: None, busy: Arc::default() }
    }

    /// Work is done by a thread that ends when this is dropped.
    pub(crate) fn threaded() -> std::io::Result<(Self, JoinHandle<()>)> {
        let (worker, jobs) = sync_channel(1);
        let busy = Arc::new(AtomicBool::new(false));
        let idle = busy.clone();
        let thread =
            std::thread::Builder::new().name("store-tidy".to_owned()).spawn(move || run(&jobs, &idle))?;
        Ok((Self { worker: Some(worker), busy }, thread))
    }

    /// Whether a job is being done; a new one would not be taken.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    pub(crate) fn prepare(&self, spare: Spare) {
        self.give(Job::Prepare(spare));
    }

    pub(crate) fn checkpoint(&self, checkpoint: Checkpoint) {
        self.give(Job::Checkpoint(Box::new(checkpoint)));
    }

    fn give(&self, job: Job) {
        let Some(worker) = &self.worker else { return job.run_and_log() };
        self.busy.store(true, Ordering::Release);
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = worker.try_send(job) {
            self.busy.store(false, Ordering::Release);
        }
    }
}

fn run(jobs: &Receiver<Job>, busy: &AtomicBool) {
    while let Ok(job) = jobs.recv() {
        job.run_and_log();
        busy.store(false, Ordering::Release);
    }
}
