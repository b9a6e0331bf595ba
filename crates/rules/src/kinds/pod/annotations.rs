//! Annotations that pods are checked for, and their older forms of fields.

use schema::Value;

use super::paths::visit_containers;
use crate::Cursor;
use crate::field::{Errors, FieldError};

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APPARMOR_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";
const RUNTIME_DEFAULT: &str = "runtime/default";

/// `ValidatePodSpecificAnnotations`; `c` is the annotations.
pub(super) fn validate_annotations(c: &Cursor<'_>, spec: &Cursor<'_>, out: &mut Errors) {
    for (key, value) in c.value.entries() {
        let value = value.as_str().unwrap_or("");
        let keyed = c.path.key(key);
        let dotted = c.path.child(key);
        match key.as_str() {
            MIRROR if spec.text_of("nodeName").is_empty() => {
                let detail = "must set spec.nodeName if mirror pod annotation is set";
                out.push(FieldError::invalid(&keyed, value, detail));
            }
            DELETION_COST if !is_deletion_cost(value) => {
                out.push(FieldError::invalid(&keyed, value, "must be a 32bit integer"));
            }
            SECCOMP_POD => validate_seccomp(value, &dotted, out),
            _ if key.starts_with(SECCOMP_CONTAINER) => validate_seccomp(value, &dotted, out),
            _ => {}
        }
        if let Some(name) = key.strip_prefix(APPARMOR_CONTAINER) {
            let mut found = false;
            visit_containers(spec, |container| found |= container.text_of("name") == name);
            if !found {
                out.push(FieldError::invalid(&keyed, name, "container not found"));
            }
            if !(matches!(value, "" | RUNTIME_DEFAULT | "unconfined") || value.starts_with("localhost/")) {
                let detail = format!("invalid AppArmor profile name: {}", crate::quote(value));
                out.push(FieldError::invalid(&keyed, value, detail));
            }
        }
    }
}

fn is_deletion_cost(text: &str) -> bool {
    text.parse::<i32>().is_ok_and(|n| n.to_string() == text)
}

fn validate_seccomp(profile: &str, path: &crate::Path<'_>, out: &mut Errors) {
    if matches!(profile, RUNTIME_DEFAULT | "docker/default" | "unconfined") {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(local) if !local.starts_with('/') && !local.split('/').any(|p| p == "..") => {}
        Some(local) => out.push(FieldError::invalid(path, local, "must be a relative path")),
        None => out.push(FieldError::invalid(path, profile, "must be a valid seccomp profile")),
    }
}

/// Where both an annotation and its field are given, they must agree.
pub(in crate::kinds) fn validate_matching(annotations: &Value, spec: &Cursor<'_>, out: &mut Errors) {
    let given = |key: &str| annotations.get(key).and_then(Value::as_str);
    let pod = spec.field("securityContext");
    if let Some(annotation) = given(SECCOMP_POD) {
        matches(&pod.field("seccompProfile"), annotation, "seccomp", out);
    }
    let windows = spec.value["os"]["name"].as_str() == Some("windows");
    visit_containers(spec, |container| {
        let name = container.text_of("name");
        let context = container.field("securityContext");
        if let Some(annotation) = given(&format!("{SECCOMP_CONTAINER}{name}")) {
            matches(&context.field("seccompProfile"), annotation, "seccomp", out);
        }
        if let (false, Some(annotation)) = (windows, given(&format!("{APPARMOR_CONTAINER}{name}"))) {
            let own = context.field("appArmorProfile");
            let effective = match own.is_set() {
                true => own,
                false => Cursor::new(&pod.value["appArmorProfile"], own.path),
            };
            matches(&effective, annotation, "apparmor", out);
        }
    });
}

fn matches(field: &Cursor<'_>, annotation: &str, what: &str, out: &mut Errors) {
    let type_matches = match field.text_of("type") {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => annotation == RUNTIME_DEFAULT || annotation == "docker/default",
        "Localhost" => annotation.starts_with("localhost/"),
        _ => return,
    };
    if !type_matches {
        field.field("type").forbidden(out, format!("{what} type in annotation and field must match"));
    } else if let Some(local) = annotation.strip_prefix("localhost/")
        && field.text_of("type") == "Localhost"
        && field.text_of("localhostProfile") != local
    {
        field
            .field("localhostProfile")
            .forbidden(out, format!("{what} profile in annotation and field must match"));
    }
}

/// Annotations that an update may not touch.
pub(super) fn validate_update(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    for (key, before) in old.entries() {
        if new.value.get(key) == Some(before) {
            continue;
        }
        let path = new.path.key(key);
        if key.starts_with(APPARMOR_CONTAINER) {
            out.push(FieldError::forbidden(&path, "may not remove or update AppArmor annotations"));
        }
        if key == MIRROR {
            out.push(FieldError::forbidden(&path, "may not remove or update mirror pod annotation"));
        }
    }
    for (key, _) in new.value.entries().iter().filter(|(key, _)| old.get(key).is_none()) {
        let path = new.path.key(key);
        if key.starts_with(APPARMOR_CONTAINER) {
            out.push(FieldError::forbidden(&path, "may not add AppArmor annotations"));
        }
        if key == MIRROR {
            out.push(FieldError::forbidden(&path, "may not add mirror pod annotation"));
        }
    }
}

/// True for pods that a kubelet made from a file.
pub(super) fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(MIRROR).is_some()
}
