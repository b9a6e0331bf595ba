//! Why the store refused or failed.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{LeaseId, Revision};

/// Every way in which a call into the store fails. Cheap to clone: one failed sync answers many waiting writers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The revision asked for is no longer in the history (HTTP 410 Gone).
    #[error("required revision has been compacted: the oldest revision is {compact_revision}")]
    Compacted {
        /// Reads must ask for at least this revision; watches for at least the one after it.
        compact_revision: Revision,
    },
    /// The revision asked for is not there yet.
    #[error("required revision is a future revision: the current one is {current}")]
    FutureRevision {
        /// The newest revision.
        current: Revision,
    },
    /// The request is larger than the store takes.
    #[error("request is too large: {what} is {size}, the limit is {limit}")]
    TooLarge {
        /// What of the request.
        what: &'static str,
        /// How much it is.
        size: usize,
        /// How much it may be.
        limit: usize,
    },
    /// The request contradicts itself.
    #[error("invalid request: {0}")]
    Invalid(&'static str),
    /// There is no such lease.
    #[error("requested lease not found: {0}")]
    LeaseNotFound(LeaseId),
    /// A lease was to be granted with an id that is taken.
    #[error("lease already exists: {0}")]
    LeaseExists(LeaseId),
    /// The disk is full, or the store's own quota is. Reads go on; writes are refused until a restart with space.
    #[error("no space left for the store: {0}")]
    NoSpace(String),
    /// No member leads: an election is going on, or there is no quorum (etcd `ErrNoLeader`).
    #[error("no leader")]
    NoLeader,
    /// The members did not agree in time; the request may have been done or not (etcd `ErrTimeout`).
    #[error("request timed out")]
    Timeout,
    /// More requests wait than the store takes (etcd `ErrTooManyRequests`).
    #[error("too many requests")]
    Overloaded,
    /// A setting has another version than the caller saw.
    #[error("the setting has changed meanwhile")]
    SettingChanged,
    /// This kind of store cannot do it.
    #[error("{0} is not supported by this store")]
    Unsupported(&'static str),
    /// The store was closed, or is closing.
    #[error("the store is closed")]
    Closed,
    /// A write was refused because an earlier write to disk failed. Reads go on.
    #[error("the store refuses writes since one to disk failed: {0}")]
    Failed(Arc<Error>),
    /// What is on disk is not what was written there.
    #[error("{} is corrupt at offset {offset}: {detail}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong.
        detail: String,
    },
    /// The data directory was written by another version of the format.
    #[error("{} holds store format {found}, this program reads format {expected} only", dir.display())]
    Format {
        /// The data directory.
        dir: PathBuf,
        /// What the directory says.
        found: String,
        /// What this program reads.
        expected: u32,
    },
    /// Another process has the data directory open.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The operating system refused an operation on a file.
    #[error("{operation} {}", file.display())]
    Io {
        /// What was done: `open`, `write`, `sync`, …
        operation: &'static str,
        /// To which file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
}
