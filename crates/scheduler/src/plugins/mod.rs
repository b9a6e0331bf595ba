//! The plugins, one file each, and the profile that upstream calls the default.

mod balanced;
mod default_binder;
mod fit;
mod image_locality;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod priority_sort;
mod scheduling_gates;
pub mod selector;
mod taint_toleration;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::framework::Plugin;

/// Every plugin by name, in upstream's order, with the weight of its score in the default profile.
pub fn registry(client: &kube::Client) -> Vec<(Arc<dyn Plugin>, i64)> {
    vec![
        (Arc::new(scheduling_gates::SchedulingGates), 0),
        (Arc::new(priority_sort::PrioritySort), 0),
        (Arc::new(node_unschedulable::NodeUnschedulable), 0),
        (Arc::new(node_name::NodeName), 0),
        (Arc::new(taint_toleration::TaintToleration), 3),
        (Arc::new(node_affinity::NodeAffinity), 2),
        (Arc::new(node_ports::NodePorts), 0),
        (Arc::new(fit::NodeResourcesFit), 1),
        (Arc::new(balanced::NodeResourcesBalancedAllocation), 1),
        (Arc::new(image_locality::ImageLocality), 1),
        (Arc::new(default_binder::DefaultBinder::new(client.clone())), 0),
    ]
}
