//! Checks of `metadata` (`apimachinery/pkg/api/validation`).

use schema::{Map, Value};

use crate::field::{ErrorKind, Errors, FieldError, Path};
use crate::names::{condition_reason, label_key, label_value, qualified_name};
use crate::{Cursor, quote};

/// Most bytes of all annotations together (`TotalAnnotationSizeLimitB`).
pub const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;
/// Longest name of a field manager (`FieldManagerMaxLength`).
pub const MAX_FIELD_MANAGER_BYTES: usize = 128;
/// Longest name of a subresource in managedFields (`MaxSubresourceNameLength`).
const MAX_SUBRESOURCE_BYTES: usize = 256;
/// Finalizers without a domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// A check of a name, or of a `generateName` prefix when the flag is true.
pub type NameRule = fn(&str, bool) -> Vec<String>;

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

/// Checks the `metadata` of a new object; `path` is where it stands.
pub fn validate_object_meta(meta: &Value, namespaced: bool, name_rule: NameRule, path: &Path<'_>) -> Errors {
    let mut out = Errors::new();
    let generate_name = text(meta, "generateName");
    if !generate_name.is_empty() {
        let path = path.child("generateName");
        out.extend(
            name_rule(generate_name, true).into_iter().map(|m| FieldError::invalid(&path, generate_name, m)),
        );
    }
    let name = text(meta, "name");
    let name_path = path.child("name");
    if name.is_empty() {
        out.push(FieldError::required(&name_path, "name or generateName is required"));
    } else {
        out.extend(name_rule(name, false).into_iter().map(|m| FieldError::invalid(&name_path, name, m)));
    }
    let namespace = text(meta, "namespace");
    let namespace_path = path.child("namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => out.push(FieldError::required(&namespace_path, "")),
        (true, false) => out.extend(
            crate::names::dns1123_label(namespace)
                .into_iter()
                .map(|m| FieldError::invalid(&namespace_path, namespace, m)),
        ),
        (false, false) => out.push(FieldError::forbidden(&namespace_path, "not allowed on this type")),
        (false, true) => {}
    }
    let generation = meta.get("generation").and_then(Value::as_int).unwrap_or(0);
    if generation < 0 {
        out.push(FieldError::invalid(&path.child("generation"), generation, NOT_NEGATIVE));
    }
    out.extend(validate_labels(meta.get("labels"), &path.child("labels")));
    out.extend(validate_annotations(meta.get("annotations"), &path.child("annotations")));
    out.extend(validate_owners(meta, &path.child("ownerReferences")));
    out.extend(validate_finalizers(meta, &path.child("finalizers")));
    out.extend(validate_managed_fields(meta, &path.child("managedFields")));
    out
}

/// `must be greater than or equal to 0`
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// `field is immutable`
pub const IMMUTABLE: &str = "field is immutable";

/// The further check of finalizers that most built-in kinds make: those without a domain must be known ones.
pub fn validate_kube_finalizers(meta: &Value, path: &Path<'_>) -> Errors {
    let path = path.child("finalizers");
    let unknown = |(i, finalizer): (usize, &Value)| {
        let finalizer = finalizer.as_str()?;
        let known = finalizer.contains('/') || STANDARD_FINALIZERS.contains(&finalizer);
        (!known).then(|| {
            FieldError::invalid(
                &path.index(i),
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            )
        })
    };
    meta["finalizers"].items().iter().enumerate().filter_map(unknown).collect()
}

/// Checks the `metadata` of an update against what it was.
pub fn validate_object_meta_update(new: &Value, old: &Value, path: &Path<'_>) -> Errors {
    let mut out = Errors::new();
    if !text(old, "deletionTimestamp").is_empty() {
        out.extend(validate_no_new_finalizers(new, old, &path.child("finalizers")));
    }
    if text(new, "resourceVersion").is_empty() {
        out.push(FieldError::invalid(&path.child("resourceVersion"), "", "must be specified for an update"));
    }
    let generation = |meta: &Value| meta.get("generation").and_then(Value::as_int).unwrap_or(0);
    if generation(new) < generation(old) {
        let path = path.child("generation");
        out.push(FieldError::invalid(&path, generation(new), "must not be decremented"));
    }
    for name in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        out.extend(immutable(new.get(name), old.get(name), &path.child(name)));
    }
    out.extend(validate_labels(new.get("labels"), &path.child("labels")));
    out.extend(validate_annotations(new.get("annotations"), &path.child("annotations")));
    out.extend(validate_owners(new, &path.child("ownerReferences")));
    out.extend(validate_managed_fields(new, &path.child("managedFields")));
    out
}

/// An error when the two differ; nothing, null and empty are the same.
pub fn immutable(new: Option<&Value>, old: Option<&Value>, path: &Path<'_>) -> Option<FieldError> {
    let set = |v: Option<&Value>| v.filter(|v| !v.is_zero()).cloned();
    (set(new) != set(old)).then(|| FieldError::invalid(path, new, IMMUTABLE))
}

/// Checks conditions of a status (`ValidateConditions`).
pub fn validate_conditions(c: &Cursor<'_>, out: &mut Errors) {
    const MAX_REASON_BYTES: usize = 1024;
    const MAX_MESSAGE_BYTES: usize = 32 * 1024;
    for (i, condition) in c.items().enumerate() {
        let kind = condition.field("type");
        if c.value.items()[..i].iter().any(|other| &other["type"] == kind.value) {
            kind.duplicate(out);
        }
        kind.check(out, label_key);
        condition.field("status").among(out, &["False", "True", "Unknown"]);
        if condition.int_of("observedGeneration") < 0 {
            condition.field("observedGeneration").invalid(out, "must be greater than or equal to zero");
        }
        if condition.field("lastTransitionTime").is_empty() {
            condition.field("lastTransitionTime").required(out, "must be set");
        }
        let (reason, message) = (condition.field("reason"), condition.field("message"));
        match reason.text().is_empty() {
            true => reason.required(out, "must be set"),
            false => reason.check(out, condition_reason),
        }
        for (field, max) in [(&reason, MAX_REASON_BYTES), (&message, MAX_MESSAGE_BYTES)] {
            if field.text().len() > max {
                out.push(FieldError::too_long(&field.path, max));
            }
        }
    }
}

/// Checks keys and values of labels, or of a selector's `matchLabels`.
pub fn validate_labels(labels: Option<&Value>, path: &Path<'_>) -> Errors {
    let mut out = Errors::new();
    for (key, value) in labels.map_or(&[][..], Value::entries) {
        out.extend(label_key(key).into_iter().map(|m| FieldError::invalid(path, key.as_str(), m)));
        let value = value.as_str().unwrap_or("");
        out.extend(label_value(value).into_iter().map(|m| FieldError::invalid(path, value, m)));
    }
    out
}

/// Checks keys of annotations and the size of all.
pub fn validate_annotations(annotations: Option<&Value>, path: &Path<'_>) -> Errors {
    let mut out = Errors::new();
    let mut bytes = 0;
    for (key, value) in annotations.map_or(&[][..], Value::entries) {
        let messages = label_key(&key.to_lowercase());
        out.extend(messages.into_iter().map(|m| FieldError::invalid(path, key.as_str(), m)));
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > MAX_ANNOTATIONS_BYTES {
        out.push(FieldError::too_long(path, MAX_ANNOTATIONS_BYTES));
    }
    out
}

fn validate_owners(meta: &Value, path: &Path<'_>) -> Errors {
    let mut out = Errors::new();
    let owners = &meta["ownerReferences"];
    let mut controller: Option<String> = None;
    for owner in owners.items() {
        let version = text(owner, "apiVersion");
        if version.rsplit('/').next().is_none_or(str::is_empty) {
            out.push(FieldError::invalid(&path.child("apiVersion"), version, "version must not be empty"));
        }
        for name in ["kind", "name", "uid"] {
            if text(owner, name).is_empty() {
                out.push(FieldError::invalid(&path.child(name), "", "must not be empty"));
            }
        }
        if version == "v1" && text(owner, "kind") == "Event" {
            out.push(FieldError::invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"));
        }
        if owner.get("controller").and_then(Value::as_bool) == Some(true) {
            let this = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
            match &controller {
                Some(first) => out.push(FieldError::invalid(
                    path,
                    owners,
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    ),
                )),
                None => controller = Some(this),
            }
        }
    }
    out
}

fn validate_finalizers(meta: &Value, path: &Path<'_>) -> Errors {
    let finalizers = &meta["finalizers"];
    let mut out = Errors::new();
    for finalizer in finalizers.items().iter().filter_map(Value::as_str) {
        out.extend(qualified_name(finalizer).into_iter().map(|m| FieldError::invalid(path, finalizer, m)));
    }
    let has = |name: &str| finalizers.items().iter().any(|f| f.as_str() == Some(name));
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        out.push(FieldError::invalid(path, finalizers, detail));
    }
    out
}

/// While an object is being deleted no finalizer may be added to it.
pub fn validate_no_new_finalizers(new: &Value, old: &Value, path: &Path<'_>) -> Option<FieldError> {
    let before = old["finalizers"].items();
    let mut extra: Vec<&str> =
        new["finalizers"].items().iter().filter(|f| !before.contains(f)).filter_map(Value::as_str).collect();
    extra.sort_unstable();
    extra.dedup();
    if extra.is_empty() {
        return None;
    }
    let listed: Vec<String> = extra.into_iter().map(quote).collect();
    Some(FieldError::forbidden(
        path,
        format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            listed.join(", ")
        ),
    ))
}

fn validate_managed_fields(meta: &Value, path: &Path<'_>) -> Errors {
    let mut out = Errors::new();
    for (i, entry) in meta["managedFields"].items().iter().enumerate() {
        let path = path.index(i);
        let operation = text(entry, "operation");
        if !matches!(operation, "Apply" | "Update") {
            let path = path.child("operation");
            out.push(FieldError::invalid(&path, operation, "must be `Apply` or `Update`"));
        }
        let fields_type = text(entry, "fieldsType");
        if !matches!(fields_type, "" | "FieldsV1") {
            out.push(FieldError::invalid(&path.child("fieldsType"), fields_type, "must be `FieldsV1`"));
        }
        out.extend(validate_field_manager(text(entry, "manager"), &path.child("manager")));
        if text(entry, "subresource").len() > MAX_SUBRESOURCE_BYTES {
            out.push(FieldError::too_long(&path.child("subresource"), MAX_SUBRESOURCE_BYTES));
        }
    }
    out
}

/// Checks the name of a field manager.
pub fn validate_field_manager(manager: &str, path: &Path<'_>) -> Errors {
    let mut out = Errors::new();
    if manager.len() > MAX_FIELD_MANAGER_BYTES {
        out.push(FieldError::too_long(path, MAX_FIELD_MANAGER_BYTES));
    }
    if let Some((at, c)) = manager.chars().enumerate().find(|(_, c)| c.is_control()) {
        out.push(FieldError::new(
            ErrorKind::Invalid,
            path,
            manager,
            format!(
                "invalid character U+{:04X} '{}' at position {at}: should only contain printable characters",
                c as u32,
                c.escape_default()
            ),
        ));
    }
    out
}

/// True when every label of `wanted` is in `labels` with the same value.
pub fn has_labels(labels: Option<&Map>, wanted: &Map) -> bool {
    wanted.iter().all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    fn check(meta: &Value) -> Vec<String> {
        let rule: NameRule = |name, _| crate::names::dns1123_subdomain(name);
        validate_object_meta(meta, true, rule, &Path::new("metadata"))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn new_objects() {
        assert_eq!(check(&value!({"name": "a", "namespace": "b"})), Vec::<String>::new());
        assert_eq!(
            check(&value!({"namespace": "b"})),
            ["metadata.name: Required value: name or generateName is required"]
        );
        let two = value!({"name": "a", "namespace": "b", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true},
            {"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "u", "controller": true}
        ]});
        let errors = check(&two);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].ends_with("Found \"true\" in references for Pod/p and Pod/q"), "{errors:?}");
        let size = "x".repeat(MAX_ANNOTATIONS_BYTES);
        assert_eq!(
            check(&value!({"name": "a", "namespace": "b", "annotations": {"a": size}})),
            ["metadata.annotations: Too long: may not be more than 262144 bytes"]
        );
    }

    #[test]
    fn changes() {
        let old = value!({"name": "a", "uid": "1", "resourceVersion": "5", "deletionTimestamp": "2024-01-01T00:00:00Z",
            "finalizers": ["x.io/a"]});
        let mut new = old.clone();
        new.insert("finalizers", ["x.io/b", "x.io/a"]);
        new.insert("uid", "2");
        let errors: Vec<String> = validate_object_meta_update(&new, &old, &Path::new("metadata"))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            errors,
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found \
                 new finalizers []string{\"x.io/b\"}",
                "metadata.uid: Invalid value: \"2\": field is immutable",
            ]
        );
    }

    #[test]
    fn finalizers_without_domain() {
        let meta = value!({"finalizers": ["a.b/c", "orphan", "mine"]});
        let errors = validate_kube_finalizers(&meta, &Path::new("metadata"));
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].field, "metadata.finalizers[2]");
    }
}
