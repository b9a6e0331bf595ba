//! Raft as a deterministic state machine without I/O, clocks or threads.
//!
//! The owner of a [`Raft`] feeds it ticks, messages and proposals, and takes from it one [`Ready`] at a time: messages
//! to send, what to write to disk, what to send after that, and entries to apply. `docs/adr/0009-raft.md` says why it
//! is ours; `tests/sim.rs` runs it through thousands of seeded histories of crashes and broken networks.

mod conf;
mod election;
mod log;
mod progress;
mod raft;
mod reads;
mod ready;
mod replication;
mod snapshot;
mod types;
pub mod wire;

pub use conf::{Change, ChangeKind, Conf};
pub use raft::{Config, PeerStatus, ProposeError, Raft, Restored, Role, Status};
pub use ready::{Chunk, ReadState, Ready};
pub use types::{Body, Entry, HardState, Hint, Message, NodeId, Payload, SnapshotMeta};
