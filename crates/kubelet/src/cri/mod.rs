//! The container runtime as the kubelet uses it: CRI v1 calls with deadlines, and what is observed through them.

mod client;
mod events;
pub mod labels;
mod observe;

pub use client::{Cri, CriError};
pub use events::follow;
#[cfg(test)]
pub use observe::SandboxRecord;
pub use observe::{ContainerRecord, ContainerState, Observed, PodRecord, list_pods, observe};
