//! etcd's v3 API both ways: [`Server`] serves it over a store, [`RemoteStore`] is a store over anyone's etcd.

mod auth;
mod compaction;
mod connect;
mod convert;
mod http;
mod http_batch;
mod http_mend;
mod lean_codec;
mod metrics;
pub mod peer;
mod remote;
mod server;
pub mod snapshot;
mod status;

pub use auth::TokenKind;
pub use compaction::Compaction;
pub use connect::{ConnectError, connect};
pub use http::{Listen, ListenError, serve};
pub use remote::{RemoteConfig, RemoteError, RemoteStore};
pub use server::{ETCD_VERSION, Options, Server};

use sha2::{Digest, Sha256};

/// An id of a member or a cluster, made of what it is known by.
pub fn hash_id(parts: &[&[u8]]) -> u64 {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let bytes: [u8; 32] = digest.finalize().into();
    bytes.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}
