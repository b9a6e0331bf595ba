//! The plugins, one file each, and the profile that upstream calls the default.

mod balanced;
mod default_binder;
mod fit;
mod image_locality;
mod inter_pod_affinity;
mod labels;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod preemption;
mod priority_sort;
mod scheduling_gates;
pub mod selector;
mod taint_toleration;
#[cfg(test)]
pub(crate) mod tests;
mod topology_spread;
mod volume_binding;

use std::sync::Arc;

use client::EventRecorder;

use crate::framework::Plugin;
use crate::lister::Lister;

/// What plugins work with.
#[derive(Clone)]
pub struct Handles {
    /// The API.
    pub client: kube::Client,
    /// For events of pods that are evicted.
    pub recorder: Option<EventRecorder>,
    /// Objects to look up.
    pub lister: Arc<dyn Lister>,
}

/// Every plugin by name, in upstream's order, with the weight of its score in the default profile.
pub fn registry(handles: &Handles) -> Vec<(Arc<dyn Plugin>, i64)> {
    let Handles { client, recorder, lister } = handles.clone();
    vec![
        (Arc::new(scheduling_gates::SchedulingGates), 0),
        (Arc::new(priority_sort::PrioritySort), 0),
        (Arc::new(node_unschedulable::NodeUnschedulable), 0),
        (Arc::new(node_name::NodeName), 0),
        (Arc::new(taint_toleration::TaintToleration), 3),
        (Arc::new(node_affinity::NodeAffinity), 2),
        (Arc::new(node_ports::NodePorts), 0),
        (Arc::new(fit::NodeResourcesFit), 1),
        (Arc::new(volume_binding::VolumeBinding::new(client.clone(), lister.clone())), 0),
        (Arc::new(topology_spread::PodTopologySpread), 2),
        (Arc::new(inter_pod_affinity::InterPodAffinity::new(lister.clone())), 2),
        (Arc::new(preemption::DefaultPreemption::new(client.clone(), recorder, lister)), 0),
        (Arc::new(balanced::NodeResourcesBalancedAllocation), 1),
        (Arc::new(image_locality::ImageLocality), 1),
        (Arc::new(default_binder::DefaultBinder::new(client)), 0),
    ]
}
