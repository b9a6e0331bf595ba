//! What the controllers share: ownership, selectors, pod facts, expectations, batches, hashes and revisions.

pub mod api;
pub mod batch;
pub mod conditions;
pub mod discovery;
pub mod expectations;
pub mod hash;
pub mod history;
pub mod node_affinity;
pub mod numbers;
pub mod owner;
pub mod pod_control;
pub mod pods;
pub mod selector;
pub mod services;
pub mod taints;
#[cfg(test)]
pub mod testing;
pub mod time;
pub mod watching;
pub mod written;
