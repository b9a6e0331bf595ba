//! Control groups of pods: `kubepods`, one below it per class, one per pod, on cgroup v1 and v2 (driver cgroupfs).

mod layout;
mod shares;
mod tree;

pub use layout::Layout;
pub use shares::keep_class_shares;
pub use tree::Cgroups;
