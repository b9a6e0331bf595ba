//! What the node network asks of the kernel: links, addresses and routes (rtnetlink), rules (nf_tables) and tracked
//! connections, in as many messages as that takes and no more.
//!
//! Knows nothing of pods or services, and does not wait for anything but the kernel.

pub mod conntrack;
mod message;
pub mod netns;
pub mod nft;
pub mod route;
mod socket;

pub use message::{Attrs, Encoder};
pub use socket::{Error, Protocol, Socket};
