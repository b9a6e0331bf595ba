//! Pods: what they ask for, what is to be done for them, and the tasks that do it.

mod act;
mod admission;
pub mod backoff;
mod kill;
pub mod plan;
#[cfg(test)]
mod plan_tests;
mod registry;
mod resize;
pub mod resources;
mod runtime_class;
mod sandbox;
pub mod spec;
mod start;
mod sysctls;
mod uid;
mod worker;

pub use admission::NodeFit;
pub use registry::{PodView, Registry};
pub use resize::ResizeTrouble;
pub use uid::PodUid;
