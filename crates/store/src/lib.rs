//! The in-memory keyspace with history at etcd's revisions, its write-ahead log and watches.
//!
//! Callers see the [`Store`] trait and the values it moves: [`Entry`], [`Txn`], [`Watcher`]. [`Embedded`] is the store
//! of one member; Raft and an external etcd stand behind the same trait.

mod checkpoint;
mod cluster;
mod core;
pub mod disk;
mod embedded;
mod entry;
mod error;
mod history;
mod hub;
mod key;
mod keyspace;
mod lease;
mod limits;
mod log;
mod mirror;
pub mod replicated;
mod revision;
#[cfg(test)]
mod sim_tests;
mod snapshot_file;
mod state;
mod store;
mod txn;
mod txn_exec;
mod watch;

pub use cluster::{
    Alarm, Cluster, ClusterError, Member, MemberId, MemberStatus, SNAPSHOT_QUEUE_CHUNKS, Setting,
    SingleMember, SnapshotStream,
};
pub use embedded::{Config, Embedded};
pub use entry::{Entry, Memo};
pub use error::Error;
pub use history::HistoryLimits;
pub use key::{Key, KeyRange};
pub use limits::*;
pub use mirror::{Fed, Mirror};
pub use revision::{LeaseId, Revision};
pub use snapshot_file::{SnapshotFile, SnapshotInfo};
pub use store::{EntryReader, LeaseStatus, RangeOptions, RangeResult, Store};
pub use txn::{Compare, CompareOp, CompareTarget, Delete, Durability, Op, OpResult, Put, Txn, TxnResult};
pub use watch::{Event, EventKind, WatchBatch, WatchOptions, Watcher};
