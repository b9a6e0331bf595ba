//! The container runtime: a CRI v1 server with images, snapshots, sandboxes, containers and streams.

mod cni;
mod disk;
mod error;
pub mod images;
mod locks;
mod netns;
mod registry;
mod snapshots;
mod spec;

pub use error::{Error, Result};
pub use registry::{RegistryConfig, RegistryError};
