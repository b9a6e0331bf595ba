//! Environment variables and where they come from.

use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::names::{config_map_key, dns1123_subdomain, env_var_name, mask_trailing_dash, qualified_name};
use crate::quantities::quantity;

const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
/// Fields of a pod that variables may take.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that files of a volume may take.
pub(super) const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// All that the downward API knows of.
const KNOWN_FIELDS: [&str; 13] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.podIP",
    "spec.host",
];

pub(super) fn validate_env(c: &Cursor<'_>, out: &mut Errors) {
    for variable in c.items() {
        variable.field("name").required_name(out, env_var_name);
        validate_value_from(&variable, out);
    }
}

fn validate_value_from(variable: &Cursor<'_>, out: &mut Errors) {
    let from = variable.field("valueFrom");
    if !from.is_set() {
        return;
    }
    let mut sources = 0;
    for kind in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        if !from.has(kind) {
            continue;
        }
        sources += 1;
        let source = from.field(kind);
        match kind {
            "fieldRef" => validate_field_ref(&source, &ENV_FIELDS, out),
            "resourceFieldRef" => validate_resource_ref(&source, false, out),
            "fileKeyRef" => validate_file_ref(&source, out),
            _ => validate_key_ref(&source, out),
        }
    }
    let complaint = match sources {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        _ if !variable.text_of("value").is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    from.invalid_as(out, "", complaint);
}

fn validate_key_ref(c: &Cursor<'_>, out: &mut Errors) {
    c.field("name").check(out, dns1123_subdomain);
    c.field("key").required_name(out, config_map_key);
}

fn validate_file_ref(c: &Cursor<'_>, out: &mut Errors) {
    for name in ["key", "path", "volumeName"] {
        if c.text_of(name).is_empty() {
            c.field(name).required(out, "");
        }
    }
}

/// `metadata.labels['a']` as the path and the subscript.
fn split_subscript(path: &str) -> Option<(&str, &str)> {
    let (path, rest) = path.strip_suffix("']")?.split_once("['")?;
    (!path.is_empty()).then_some((path, rest))
}

/// `validateObjectFieldSelector`.
pub(super) fn validate_field_ref(c: &Cursor<'_>, allowed: &[&str], out: &mut Errors) {
    let (version, path) = (c.text_of("apiVersion"), c.field("fieldPath"));
    if version.is_empty() {
        return c.field("apiVersion").required(out, "");
    }
    let text = path.text();
    if text.is_empty() {
        return path.required(out, "");
    }
    if version != "v1" {
        return path.invalid(out, format!("error converting fieldPath: unsupported pod version: {version}"));
    }
    if let Some((base, subscript)) = split_subscript(text) {
        match base {
            "metadata.annotations" => {
                let subscript = subscript.to_lowercase();
                qualified_name(&subscript).into_iter().for_each(|m| c.invalid_as(out, subscript.as_str(), m));
            }
            "metadata.labels" => {
                qualified_name(subscript).into_iter().for_each(|m| c.invalid_as(out, subscript, m));
            }
            _ => path.invalid(
                out,
                format!("error converting fieldPath: field label does not support subscript: {text}"),
            ),
        }
        return;
    }
    if !KNOWN_FIELDS.contains(&text) && !ENV_FIELDS.contains(&text) {
        return path.invalid(out, format!("error converting fieldPath: field label not supported: {text}"));
    }
    if !allowed.contains(&text) {
        out.push(FieldError::not_supported(&path.path, text, allowed));
    }
}

/// `validateContainerResourceFieldSelector`; in volumes the container must be named.
pub(super) fn validate_resource_ref(c: &Cursor<'_>, in_volume: bool, out: &mut Errors) {
    let resource = c.text_of("resource");
    let huge = |resource: &str| {
        resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-")
    };
    if in_volume && c.text_of("containerName").is_empty() {
        c.field("containerName").required(out, "");
    } else if resource.is_empty() {
        c.field("resource").required(out, "");
    } else if !RESOURCE_FIELDS.contains(&resource) && !huge(resource) {
        c.field("resource").not_supported(out, &RESOURCE_FIELDS);
    }
    let Some(divisor) = quantity(&c.value["divisor"]).filter(|d| !d.is_zero()) else { return };
    const BYTES: [&str; 13] =
        ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (allowed, what): (&[&str], _) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (&BYTES, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (&BYTES, "local ephemeral storage"),
        other if huge(other) => (&BYTES, "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor.to_string().as_str()) {
        let list = if what == "cpu" { "1m and 1".to_owned() } else { BYTES.join(", ") };
        c.field("divisor").invalid_as(
            out,
            resource,
            format!("only divisor's values {list} are supported with the {what} resource"),
        );
    }
}

pub(super) fn validate_env_from(c: &Cursor<'_>, out: &mut Errors) {
    for source in c.items() {
        let prefix = source.field("prefix");
        if !prefix.text().is_empty() {
            prefix.check(out, env_var_name);
        }
        let mut sources = 0;
        for kind in ["configMapRef", "secretRef"] {
            if source.has(kind) {
                sources += 1;
                let reference = source.field(kind);
                reference
                    .field("name")
                    .required_name(out, |name| dns1123_subdomain(&mask_trailing_dash(name)));
            }
        }
        match sources {
            0 => c.invalid_as(out, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => c.invalid_as(out, "", "may not have more than one field specified at a time"),
        }
    }
}
