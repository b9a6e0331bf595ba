//! What events are about.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};

use crate::pod::spec;

/// A pod.
pub fn pod_reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(spec::name(pod).to_owned()),
        namespace: Some(spec::namespace(pod).to_owned()),
        // A static pod is known to the API by its hash, which is its mirror's too.
        uid: Some(spec::uid(pod).to_string()),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// A container of a pod; `field_path` like `spec.containers{name}`.
pub fn container_reference(pod: &Pod, field_path: &str) -> ObjectReference {
    ObjectReference { field_path: Some(field_path.to_owned()), ..pod_reference(pod) }
}

/// A node: its UID is its name, as upstream's kubelet has it.
pub fn node_reference(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}
