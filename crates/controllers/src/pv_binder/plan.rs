//! What binds a claim and a volume to each other, step by step.

use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
    PersistentVolumeStatus,
};
use k8s_openapi::jiff::Timestamp;

use crate::common::time;

/// Set by whoever bound claim and volume, so that the binding may be undone.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Set when a claim's binding is done.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

fn has(annotations: Option<&std::collections::BTreeMap<String, String>>, name: &str) -> bool {
    annotations.is_some_and(|a| a.contains_key(name))
}

/// True if the claim was bound before.
pub fn is_completed(claim: &PersistentVolumeClaim) -> bool {
    has(claim.metadata.annotations.as_ref(), BIND_COMPLETED)
}

/// The volume with its reference to the claim; None if it has it.
pub fn refer(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let known = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    if known.is_some_and(|r| r.uid == claim.metadata.uid && r.uid.is_some()) {
        return None;
    }
    let mut wanted = volume.clone();
    if known.is_none() {
        // A reference that the user made must not be taken away again.
        let annotations = wanted.metadata.annotations.get_or_insert_default();
        annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
    }
    wanted.spec.get_or_insert_default().claim_ref = Some(ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        field_path: None,
    });
    Some(wanted)
}

/// The volume in a phase; None if it is in it.
pub fn in_phase(volume: &PersistentVolume, phase: &str, now: Timestamp) -> Option<PersistentVolume> {
    let before = volume.status.clone().unwrap_or_default();
    if before.phase.as_deref() == Some(phase) {
        return None;
    }
    let status = PersistentVolumeStatus {
        phase: Some(phase.to_owned()),
        last_phase_transition_time: time::time(now),
        ..PersistentVolumeStatus::default()
    };
    Some(PersistentVolume { status: Some(status), ..volume.clone() })
}

/// The claim with its reference to the volume; None if it has it.
pub fn point(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let mut wanted = claim.clone();
    let spec = wanted.spec.get_or_insert_default();
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    if spec.volume_name != volume.metadata.name {
        spec.volume_name.clone_from(&volume.metadata.name);
        annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
    }
    annotations.entry(BIND_COMPLETED.to_owned()).or_insert_with(|| "yes".to_owned());
    (wanted != *claim).then_some(wanted)
}

/// The claim with a status that says it is bound; None if it has it.
pub fn bound(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let spec = volume.spec.clone().unwrap_or_default();
    let before = claim.status.clone().unwrap_or_default();
    let was_bound = before.phase.as_deref() == Some("Bound");
    let status = PersistentVolumeClaimStatus {
        phase: Some("Bound".to_owned()),
        access_modes: spec.access_modes,
        // Once bound the capacity is the resizer's to say.
        capacity: if was_bound && before.capacity.is_some() {
            before.capacity.clone()
        } else {
            spec.capacity
        },
        ..before.clone()
    };
    (status != before).then(|| PersistentVolumeClaim { status: Some(status), ..claim.clone() })
}

/// The claim in a phase, without access modes and capacity; None if it is in it.
pub fn unbound(claim: &PersistentVolumeClaim, phase: &str) -> Option<PersistentVolumeClaim> {
    let before = claim.status.clone().unwrap_or_default();
    (before.phase.as_deref() != Some(phase)).then(|| {
        let status = PersistentVolumeClaimStatus {
            phase: Some(phase.to_owned()),
            access_modes: None,
            capacity: None,
            ..before
        };
        PersistentVolumeClaim { status: Some(status), ..claim.clone() }
    })
}

/// The volume without the reference that we made, or with the user's one open again.
pub fn let_go(volume: &PersistentVolume) -> PersistentVolume {
    let mut freed = volume.clone();
    let ours = has(volume.metadata.annotations.as_ref(), BOUND_BY_CONTROLLER);
    let spec = freed.spec.get_or_insert_default();
    if ours {
        spec.claim_ref = None;
        if let Some(annotations) = &mut freed.metadata.annotations {
            annotations.remove(BOUND_BY_CONTROLLER);
        }
    } else if let Some(reference) = &mut spec.claim_ref {
        reference.uid = None;
        reference.resource_version = None;
    }
    freed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{at, object};
    use serde_json::json;

    #[test]
    fn binding_is_four_writes_and_then_none() {
        let volume: PersistentVolume =
            object(json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Available"}}));
        let claim: PersistentVolumeClaim = object(
            json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u"}, "spec": {}, "status": {"phase": "Pending"}}),
        );
        let now = at("2026-01-01T00:00:00Z");
        let referred = refer(&volume, &claim).unwrap();
        let volume = in_phase(&referred, "Bound", now).unwrap();
        let pointed = point(&claim, &volume).unwrap();
        let claim = bound(&pointed, &volume).unwrap();
        assert_eq!(claim.spec.as_ref().unwrap().volume_name.as_deref(), Some("v"));
        assert_eq!(
            json!(claim.status),
            json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "5Gi"}})
        );
        assert!(is_completed(&claim));
        assert!(refer(&volume, &claim).is_none() && in_phase(&volume, "Bound", now).is_none());
        assert!(point(&claim, &volume).is_none() && bound(&claim, &volume).is_none());
        assert!(let_go(&volume).spec.unwrap().claim_ref.is_none());
    }
}
