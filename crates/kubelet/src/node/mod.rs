//! The node: what it is and has, its registration, status and lease.

pub mod disk;
mod info;
mod lease;
mod machine;
mod register;
mod status;
mod status_loop;

pub use info::system_info;
pub use lease::keep_lease;
pub use machine::{Machine, memory_available, min_oom_score_adj, node_address, threshold_bytes};
pub use register::register;
pub use status::{NodeFacts, Pressure, RuntimeFacts, node_status};
pub use status_loop::{NodeStatusContext, keep_status};

/// What this kubelet says its version is.
pub const VERSION: &str = base::GIT_VERSION;
