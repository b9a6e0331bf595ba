//! The annotations by which deployments and their replica sets remember revisions and sizes.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Revision of a deployment's current template, and of a replica set.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Revisions that a replica set had before, joined by commas.
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// Size of the deployment when the replica set was last scaled.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// That size with maxSurge.
const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Longest revision history, in characters.
const HISTORY_LIMIT: usize = 2000;
/// Annotations of a deployment that its replica sets do not take over.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
];

fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a String> {
    meta.annotations.as_ref()?.get(name)
}

/// The revision of an object; 0 if it has none.
pub fn revision(meta: &ObjectMeta) -> i64 {
    annotation(meta, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The size of the deployment when `rs` was scaled last.
pub fn desired_replicas(rs: &ReplicaSet) -> Option<i32> {
    annotation(&rs.metadata, DESIRED)?.parse().ok()
}

/// The largest number of pods allowed when `rs` was scaled last.
pub fn max_replicas(rs: &ReplicaSet) -> Option<i32> {
    annotation(&rs.metadata, MAX)?.parse().ok()
}

/// Notes the size on a replica set. True if that changes something.
pub fn note_size(meta: &mut ObjectMeta, desired: i32, max: i32) -> bool {
    let annotations = meta.annotations.get_or_insert_default();
    let mut changed = false;
    for (name, value) in [(DESIRED, desired.to_string()), (MAX, max.to_string())] {
        changed |= annotations.get(name) != Some(&value);
        annotations.insert(name.to_owned(), value);
    }
    changed
}

/// Brings the annotations of the replica set of the current template up to date. True if that changes something.
pub fn note_revision(rs: &mut ObjectMeta, deployment: &Deployment, revision: i64) -> bool {
    let mut changed = copy_annotations(deployment, rs);
    let old = self::revision(rs);
    let annotations = rs.annotations.get_or_insert_default();
    if old < revision {
        if let Some(previous) = annotations.insert(REVISION.to_owned(), revision.to_string()) {
            push_history(annotations, previous);
        }
        changed = true;
    }
    changed
}

fn copy_annotations(deployment: &Deployment, rs: &mut ObjectMeta) -> bool {
    let mut changed = false;
    for (name, value) in deployment.metadata.annotations.iter().flatten() {
        if NOT_COPIED.contains(&name.as_str()) || annotation(rs, name) == Some(value) {
            continue;
        }
        rs.annotations.get_or_insert_default().insert(name.clone(), value.clone());
        changed = true;
    }
    changed
}

/// Appends to the history; the oldest revisions make room.
fn push_history(annotations: &mut BTreeMap<String, String>, previous: String) {
    let mut history: Vec<String> = annotations
        .get(REVISION_HISTORY)
        .into_iter()
        .flat_map(|text| text.split(','))
        .filter(|r| !r.is_empty() && *r != previous)
        .map(str::to_owned)
        .collect();
    history.push(previous);
    while history.len() > 1 && history.iter().map(|r| r.len() + 1).sum::<usize>() > HISTORY_LIMIT {
        history.remove(0);
    }
    annotations.insert(REVISION_HISTORY.to_owned(), history.join(","));
}
