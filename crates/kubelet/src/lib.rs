//! kubelet: pod workers, probes, volumes, cgroups, status and the node's HTTPS API.
//!
//! Knows the API server through a [`kube::Client`] and the container runtime through CRI, and nothing else of either.

mod cgroups;
mod config;
mod container;
mod cri;
mod error;
mod events;
mod eviction;
mod gc;
mod images;
mod inotify;
mod logs;
mod node;
mod pod;
mod probes;
mod run;
mod server;
mod shared;
mod sources;
mod status;
mod volumes;

pub use config::Config;
pub use error::Error;
pub use node::VERSION;
pub use run::{run, run_with_clock};
