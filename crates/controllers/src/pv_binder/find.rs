//! Which volume fits a claim.

use std::sync::Arc;

use base::Quantity;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};

use crate::common::node_affinity;
use crate::common::selector::Matcher;

/// The storage class of a claim or volume, as older objects have it.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// The class of a claim; None if it has none and takes the default one.
pub fn class_of_claim(claim: &PersistentVolumeClaim) -> Option<String> {
    let annotated = claim.metadata.annotations.as_ref().and_then(|a| a.get(CLASS_ANNOTATION)).cloned();
    annotated.or_else(|| claim.spec.as_ref()?.storage_class_name.clone())
}

/// The class of a volume; empty if it has none.
pub fn class_of_volume(volume: &PersistentVolume) -> String {
    let annotated = volume.metadata.annotations.as_ref().and_then(|a| a.get(CLASS_ANNOTATION)).cloned();
    annotated.or_else(|| volume.spec.as_ref()?.storage_class_name.clone()).unwrap_or_default()
}

/// True if the volume names the claim, and no other of the same name.
pub fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) else { return false };
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && reference
            .uid
            .as_deref()
            .is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
}

fn capacity(volume: &PersistentVolume) -> Option<Quantity> {
    let text = volume.spec.as_ref()?.capacity.as_ref()?.get("storage")?;
    Quantity::parse(&text.0).ok()
}

fn request(claim: &PersistentVolumeClaim) -> Quantity {
    let asked = claim.spec.as_ref().and_then(|s| s.resources.as_ref()?.requests.as_ref()?.get("storage"));
    asked.and_then(|q| Quantity::parse(&q.0).ok()).unwrap_or(Quantity::ZERO)
}

/// Why a volume does not fit a claim; Ok if it does. Who has it now is not asked.
pub fn check(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), &'static str> {
    let (of_volume, of_claim) =
        (volume.spec.clone().unwrap_or_default(), claim.spec.clone().unwrap_or_default());
    if capacity(volume).is_none_or(|c| c < request(claim)) {
        return Err("requested PV is too small");
    }
    if class_of_volume(volume) != class_of_claim(claim).unwrap_or_default() {
        return Err("storageClassName does not match");
    }
    let mode = |mode: Option<String>| mode.unwrap_or_else(|| "Filesystem".to_owned());
    if mode(of_volume.volume_mode) != mode(of_claim.volume_mode) {
        return Err("incompatible volumeMode");
    }
    let offered = of_volume.access_modes.unwrap_or_default();
    if of_claim.access_modes.iter().flatten().any(|m| !offered.contains(m)) {
        return Err("incompatible accessMode");
    }
    Ok(())
}

/// The volume for a claim that names none: one that was made for it, else the smallest free one that fits. `node` is the
/// node where it must be usable, if that matters.
pub fn find(
    claim: &PersistentVolumeClaim,
    volumes: &[Arc<PersistentVolume>],
    node: Option<&Node>,
) -> Option<Arc<PersistentVolume>> {
    let prebound =
        volumes.iter().find(|v| is_bound_to(v, claim) && capacity(v).is_some_and(|c| c >= request(claim)));
    if let Some(volume) = prebound {
        return Some(volume.clone());
    }
    let selector = claim.spec.as_ref().and_then(|s| s.selector.as_ref());
    let Ok(matcher) = selector.map_or_else(|| Ok(Matcher::default()), Matcher::new) else { return None };
    let fits = |volume: &&Arc<PersistentVolume>| {
        let spec = volume.spec.as_ref();
        let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
        let affinity = spec.and_then(|s| s.node_affinity.as_ref()?.required.as_ref());
        spec.is_some_and(|s| s.claim_ref.is_none())
            && matches!(phase, "" | "Available" | "Pending")
            && volume.metadata.deletion_timestamp.is_none()
            && matcher.matches(volume.metadata.labels.as_ref())
            && check(volume, claim).is_ok()
            && node.is_none_or(|node| affinity.is_none_or(|a| node_affinity::matches(a, node)))
    };
    volumes.iter().filter(fits).min_by_key(|v| capacity(v).map_or(0, |c| c.nanos())).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;
    use serde_json::{Value, json};

    fn volume(name: &str, size: &str, extra: Value) -> Arc<PersistentVolume> {
        let mut spec =
            json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"]});
        for (key, value) in extra.as_object().unwrap() {
            spec[key] = value.clone();
        }
        Arc::new(object(
            json!({"metadata": {"name": name, "labels": {"n": name}}, "spec": spec, "status": {"phase": "Available"}}),
        ))
    }

    #[test]
    fn the_smallest_that_fits() {
        let claim = |extra: Value| -> PersistentVolumeClaim {
            let mut spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "",
                "resources": {"requests": {"storage": "5Gi"}}});
            for (key, value) in extra.as_object().unwrap() {
                spec[key] = value.clone();
            }
            object(json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u"}, "spec": spec}))
        };
        let mine = json!({"claimRef": {"name": "c", "namespace": "ns"}});
        let theirs = json!({"claimRef": {"name": "c", "namespace": "ns", "uid": "other"}});
        let all = || {
            vec![
                volume("small", "1Gi", json!({})),
                volume("big", "20Gi", json!({})),
                volume("fits", "10Gi", json!({})),
                volume("classy", "6Gi", json!({"storageClassName": "fast"})),
                volume("taken", "6Gi", theirs.clone()),
                volume("block", "6Gi", json!({"volumeMode": "Block"})),
            ]
        };
        let found = |claim: &PersistentVolumeClaim, volumes: Vec<Arc<PersistentVolume>>| {
            find(claim, &volumes, None).and_then(|v| v.metadata.name.clone())
        };
        assert_eq!(found(&claim(json!({})), all()).as_deref(), Some("fits"));
        assert_eq!(found(&claim(json!({"storageClassName": "fast"})), all()).as_deref(), Some("classy"));
        assert_eq!(
            found(&claim(json!({"selector": {"matchLabels": {"n": "big"}}})), all()).as_deref(),
            Some("big")
        );
        assert_eq!(found(&claim(json!({"accessModes": ["ReadWriteMany"]})), all()), None);
        let mut with_mine = all();
        with_mine.push(volume("mine", "50Gi", mine));
        assert_eq!(found(&claim(json!({})), with_mine).as_deref(), Some("mine"));
    }
}
