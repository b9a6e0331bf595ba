//! The annotation of client-side apply, while `kubectl` moves from one kind of apply to the other.

use schema::{Schema, Value};

use super::Conflict;
use crate::fields::Set;
use crate::typed::{compare, field_set};

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Upstream leaves the annotation out when all annotations would be larger (`TotalAnnotationSizeLimitB`).
const MAX_BYTES: usize = 256 * 1024;

fn annotation(object: &Value) -> Option<&str> {
    object.at("metadata.annotations")?.get(ANNOTATION)?.as_str()
}

/// The conflicts that are not merely with the same user's client-side applies: fields that the annotation holds, with
/// the values that the live object has, are the user's own.
pub(super) fn not_allowed(schema: &Schema, live: &Value, conflicts: Vec<Conflict>) -> Vec<Conflict> {
    let Some(last) = annotation(live).and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return conflicts;
    };
    let root = schema.root();
    let difference = compare(root, live, &last);
    let own: Set = field_set(root, &last)
        .difference(&difference.modified)
        .difference(&difference.added)
        .difference(&difference.removed);
    let own: std::collections::HashSet<String> = own.leaf_paths().into_iter().collect();
    conflicts.into_iter().filter(|conflict| !own.contains(&conflict.path)).collect()
}

/// Writes the applied configuration into the annotation, if there was one.
pub(super) fn refresh(object: &mut Value, applied: &Value) {
    if annotation(object).is_none_or(str::is_empty) {
        return;
    }
    let mut config = applied.clone();
    if let Some(annotations) = config.at_mut("metadata.annotations") {
        annotations.remove(ANNOTATION);
    }
    let Ok(mut text) = serde_json::to_string(&config) else { return };
    text.push('\n');
    if text.len() > MAX_BYTES {
        return;
    }
    object.set_pointer(&["metadata", "annotations", ANNOTATION], text);
}
