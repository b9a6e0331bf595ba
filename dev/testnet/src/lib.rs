//! What tests of several crates need of the network: ports that nobody else gets, and network namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed call fails the test")]

mod netns;
mod port;

pub use netns::{Netns, has_nft};
pub use port::reserve_port;
