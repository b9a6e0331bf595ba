//! Rules of `metadata`, the same for all kinds.

use rules::{FieldError, Path, meta as checks};
use schema::Value;

use super::write::Warnings;
use super::{Served, meta};
use crate::status::{ApiError, ApiResult};

/// Sets the namespace of the request, or refuses another one.
pub fn match_namespace(served: &Served, namespace: &str, object: &mut Value) -> ApiResult<()> {
    let namespace = if served.resource.namespaced { namespace } else { "" };
    match meta::namespace(object) {
        "" => meta::set(object, "namespace", namespace),
        given if given == namespace => {}
        // What lives in no namespace just loses it.
        _ if namespace.is_empty() => meta::remove(object, "namespace"),
        _ => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

/// Removes owner references that are there twice, with a warning.
pub fn dedup_owners(object: &mut Value, warnings: &Warnings) {
    let Some(Value::List(owners)) = object.at_mut("metadata.ownerReferences") else { return };
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut doubled = Vec::new();
    for owner in std::mem::take(owners) {
        if kept.contains(&owner) {
            doubled.push(owner.str_at("uid").unwrap_or_default().to_owned());
        } else {
            kept.push(owner);
        }
    }
    *owners = kept;
    if !doubled.is_empty() {
        doubled.dedup();
        warnings.add(format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and \
             may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            doubled.join(", ")
        ));
    }
}

/// What is wrong with the metadata of a new object.
pub fn validate_new(served: &Served, object: &Value) -> Vec<FieldError> {
    let path = Path::new("metadata");
    let metadata = &object["metadata"];
    let rule = served.strategy.traits().name_rule;
    let mut errors = checks::validate_object_meta(metadata, served.resource.namespaced, rule, &path);
    if served.strategy.traits().kube_finalizers {
        errors.extend(checks::validate_kube_finalizers(metadata, &path));
    }
    errors
}

/// What is wrong with a change of metadata.
pub fn validate_change(served: &Served, new: &Value, old: &Value) -> Vec<FieldError> {
    let path = Path::new("metadata");
    let mut errors = checks::validate_object_meta_update(&new["metadata"], &old["metadata"], &path);
    if served.strategy.traits().metadata_twice {
        errors.extend_from_within(..);
    }
    if served.strategy.traits().kube_finalizers {
        errors.extend(checks::validate_kube_finalizers(&new["metadata"], &path));
    }
    errors
}
