//! What makes a pod of a StatefulSet the one of its ordinal: name, labels, hostname and claims.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::common::history::REVISION_LABEL;
use crate::common::owner::{controller_of, controller_reference};
use crate::common::pod_control::pod_of;

/// The pod's own name, as a label.
const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// Its ordinal, as a label.
const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// Set and ordinal that a pod's name says.
pub fn parse(name: &str) -> Option<(&str, i32)> {
    let (set, ordinal) = name.rsplit_once('-')?;
    let digits = !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| Some((set, ordinal.parse().ok()?))).flatten()
}

fn name_of(set: &StatefulSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

/// The pod of an ordinal, made from a template.
pub fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = pod_of(name_of(set), controller_reference(set), template);
    pod.metadata.generate_name = Some(format!("{}-", name_of(set)));
    pod.metadata.namespace.clone_from(&set.metadata.namespace);
    pod.metadata.labels.get_or_insert_default().insert(REVISION_LABEL.to_owned(), revision.to_owned());
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{}-{ordinal}", name_of(set)));
        spec.subdomain = set.spec.as_ref().and_then(|s| s.service_name.clone()).filter(|s| !s.is_empty());
    }
    identify(set, &mut pod, ordinal);
    pod
}

/// Gives a pod the name, labels and claims of its ordinal. True if that changes something.
pub fn identify(set: &StatefulSet, pod: &mut Pod, ordinal: i32) -> bool {
    let name = format!("{}-{ordinal}", name_of(set));
    let mut changed = pod.metadata.name.as_deref() != Some(&name);
    let labels = pod.metadata.labels.get_or_insert_default();
    for (label, value) in [(POD_NAME_LABEL, name.clone()), (POD_INDEX_LABEL, ordinal.to_string())] {
        changed |= labels.insert(label.to_owned(), value.clone()) != Some(value);
    }
    pod.metadata.name = Some(name);
    changed | set_volumes(set, pod, ordinal)
}

fn set_volumes(set: &StatefulSet, pod: &mut Pod, ordinal: i32) -> bool {
    let Some(spec) = &mut pod.spec else { return false };
    let mut changed = false;
    for claim in claims(set, ordinal) {
        let volume_name = template_name(&claim.template);
        let wanted = PersistentVolumeClaimVolumeSource {
            claim_name: claim.name,
            // As it always was: read-only is not for the set to say.
            read_only: None,
        };
        let volumes = spec.volumes.get_or_insert_default();
        let same = |v: &Volume| {
            v.persistent_volume_claim.as_ref().is_some_and(|c| c.claim_name == wanted.claim_name)
        };
        if volumes.iter().any(|v| v.name == volume_name && same(v)) {
            continue;
        }
        volumes.retain(|v| v.name != volume_name);
        volumes.push(Volume {
            name: volume_name,
            persistent_volume_claim: Some(wanted),
            ..Volume::default()
        });
        changed = true;
    }
    changed
}

fn template_name(template: &PersistentVolumeClaim) -> String {
    template.metadata.name.clone().unwrap_or_default()
}

/// A claim of a pod.
pub struct Claim {
    /// Its name.
    pub name: String,
    /// What it is made from.
    pub template: PersistentVolumeClaim,
}

/// The claims of the pod of an ordinal.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<Claim> {
    let templates = set.spec.as_ref().and_then(|s| s.volume_claim_templates.clone()).unwrap_or_default();
    let named = |template: PersistentVolumeClaim| Claim {
        name: format!("{}-{}-{ordinal}", template_name(&template), name_of(set)),
        template,
    };
    templates.into_iter().map(named).collect()
}

/// The claim object of a pod, with the owners that the retention policy asks for.
pub fn new_claim(set: &StatefulSet, claim: &Claim, pod: &Pod, is_condemned: bool) -> PersistentVolumeClaim {
    let mut labels: BTreeMap<String, String> = claim.template.metadata.labels.clone().unwrap_or_default();
    labels.extend(set.spec.as_ref().and_then(|s| s.selector.match_labels.clone()).unwrap_or_default());
    let mut made = PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(claim.name.clone()),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: claim.template.metadata.annotations.clone(),
            ..ObjectMeta::default()
        },
        spec: claim.template.spec.clone(),
        status: None,
    };
    if let Some(owners) = owners_of_claim(set, pod, &made, is_condemned) {
        made.metadata.owner_references = Some(owners);
    }
    made
}

/// The owners that a claim is to have by `persistentVolumeClaimRetentionPolicy` (KEP-1847); None if it has them, or if
/// somebody else controls it.
pub fn owners_of_claim(
    set: &StatefulSet,
    pod: &Pod,
    claim: &PersistentVolumeClaim,
    is_condemned: bool,
) -> Option<Vec<OwnerReference>> {
    let policy = set.spec.as_ref().and_then(|s| s.persistent_volume_claim_retention_policy.clone());
    let deletes = |when: Option<&String>| when.is_some_and(|w| w == "Delete");
    let when_deleted = deletes(policy.as_ref().and_then(|p| p.when_deleted.as_ref()));
    let when_scaled = deletes(policy.as_ref().and_then(|p| p.when_scaled.as_ref()));
    let by_pod = when_scaled && is_condemned;
    let by_set = when_deleted && !by_pod;
    let is_ours = |r: &OwnerReference| {
        Some(&r.uid) == set.metadata.uid.as_ref()
            || Some(&r.uid) == pod.metadata.uid.as_ref()
            || (r.kind == "Pod" && Some(&r.name) == pod.metadata.name.as_ref())
            || (r.kind == "StatefulSet" && Some(&r.name) == set.metadata.name.as_ref())
    };
    if controller_of(&claim.metadata).is_some_and(|r| !is_ours(r)) {
        return None;
    }
    let before = claim.metadata.owner_references.clone().unwrap_or_default();
    let mut owners: Vec<OwnerReference> = before.iter().filter(|r| !is_ours(r)).cloned().collect();
    if by_set {
        owners.push(controller_reference(set));
    }
    if by_pod && pod.metadata.uid.is_some() {
        owners.push(controller_reference(pod));
    }
    (owners != before).then_some(owners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;
    use serde_json::{Value, json};

    fn set(retention: Value) -> StatefulSet {
        object(
            json!({"metadata": {"name": "db", "namespace": "ns", "uid": "s"}, "spec": {"serviceName": "svc",
            "selector": {"matchLabels": {"app": "db"}}, "persistentVolumeClaimRetentionPolicy": retention,
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [],
                "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"x": "y"}}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}}),
        )
    }

    #[test]
    fn pods_have_their_names_and_claims() {
        let set = set(json!(null));
        let mut pod = new_pod(&set, &set.spec.as_ref().unwrap().template, "db-abc", 2);
        let found = json!({"name": pod.metadata.name, "labels": pod.metadata.labels,
            "hostname": pod.spec.as_ref().unwrap().hostname, "volumes": pod.spec.as_ref().unwrap().volumes});
        assert_eq!(
            found,
            json!({"name": "db-2", "hostname": "db-2",
            "labels": {"app": "db", "controller-revision-hash": "db-abc", "apps.kubernetes.io/pod-index": "2",
                "statefulset.kubernetes.io/pod-name": "db-2"},
            "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-2"}}]})
        );
        assert!(!identify(&set, &mut pod, 2));
        let claim = new_claim(&set, &claims(&set, 2)[0], &pod, false);
        assert_eq!(
            json!(claim.metadata),
            json!({"name": "data-db-2", "namespace": "ns", "labels": {"app": "db", "x": "y"}})
        );
        assert_eq!(parse("db-2"), Some(("db", 2)));
        assert_eq!(parse("db-x"), None);
    }

    #[test]
    fn retention_decides_who_owns_claims() {
        let pod: Pod = object(json!({"metadata": {"name": "db-2", "uid": "p"}}));
        for (deleted, scaled, condemned, expected) in [
            ("Retain", "Retain", false, vec![]),
            ("Delete", "Retain", true, vec!["s"]),
            ("Retain", "Delete", false, vec![]),
            ("Retain", "Delete", true, vec!["p"]),
            ("Delete", "Delete", false, vec!["s"]),
            ("Delete", "Delete", true, vec!["p"]),
        ] {
            let set = set(json!({"whenDeleted": deleted, "whenScaled": scaled}));
            let claim = PersistentVolumeClaim::default();
            let owners = owners_of_claim(&set, &pod, &claim, condemned).unwrap_or_default();
            let uids: Vec<&str> = owners.iter().map(|o| o.uid.as_str()).collect();
            assert_eq!(uids, expected, "{deleted} {scaled} {condemned}");
        }
    }
}
