//! Control groups of pods: `kubepods`, one below it per class, one per pod, on cgroup v1 and v2 (driver cgroupfs).

mod layout;
mod tree;

pub use layout::Layout;
pub use tree::Cgroups;
