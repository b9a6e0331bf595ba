//! What the store takes at most. The numbers are etcd's defaults where etcd has one.

use std::time::Duration;

/// Keys and values of one transaction together, in bytes (etcd `--max-request-bytes`, 1.5 MiB).
pub const MAX_REQUEST_BYTES: usize = 1_572_864;
/// Operations in one branch of a transaction (etcd `--max-txn-ops`).
pub const MAX_TXN_OPS: usize = 128;
/// Transactions within transactions. etcd has no limit of its own but its request size.
pub const MAX_TXN_DEPTH: usize = 8;
/// One key, in bytes. The longest key of the API server is below 1 KiB.
pub const MAX_KEY_BYTES: usize = 32 * 1024;
/// The longest time to live of a lease, in seconds (etcd `MaxLeaseTTL`).
pub const MAX_LEASE_TTL_S: i64 = 9_000_000_000;
/// How long a write with [`crate::Durability::Relaxed`] may stay off the disk.
pub const RELAXED_SYNC: Duration = Duration::from_secs(1);
/// Relaxed revisions that may be off the disk at once; the next one forces a sync. After an unclean stop revisions
/// go on this far ahead, so that none that a client may have seen is ever given twice.
pub const RELAXED_MAX_UNSYNCED: u64 = 1024;
/// Batches that wait in one watcher before it falls back to reading the shared history.
pub const WATCH_BUFFER_BATCHES: usize = 256;
/// Events that a watcher takes out of the history at once while it catches up.
pub const WATCH_CATCH_UP_EVENTS: usize = 512;
/// Transactions that wait for the writer; further callers wait for a place.
pub const WRITE_QUEUE: usize = 4096;
