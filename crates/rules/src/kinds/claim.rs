//! PersistentVolumeClaims.

use schema::Value;

use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::label_selector::validate_label_selector;
use crate::meta::{validate_annotations, validate_labels};
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::quantities::{quantity, validate_amount, validate_positive};

use super::{KindRules, Write};

pub(super) const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) const RULES: KindRules = KindRules {
    prepare_create: |claim, _| {
        claim.insert("status", schema::value!({"phase": "Pending"}));
        link_data_sources(claim);
    },
    prepare_update: |new, _, write| {
        if write.subresource.is_empty() {
            link_data_sources(new);
        }
    },
    validate: |claim, _, out| validate_claim_spec(&claim.field("spec"), out),
    validate_update,
    ..KindRules::NONE
};

/// `dataSource` and `dataSourceRef` name the same thing unless the latter is in another namespace.
fn link_data_sources(claim: &mut Value) {
    let Some(spec) = claim.get_mut("spec") else { return };
    let (source, reference) = (spec["dataSource"].clone(), spec["dataSourceRef"].clone());
    if !reference.is_null() && !reference["namespace"].is_zero() {
        return;
    }
    if !source.is_null() && reference.is_null() {
        spec.insert("dataSourceRef", source);
    } else if source.is_null() && !reference.is_null() {
        let mut source = reference;
        source.remove("namespace");
        spec.insert("dataSource", source);
    }
}

/// The claim template of a generic ephemeral volume.
pub(super) fn validate_claim_template(c: &Cursor<'_>, out: &mut Errors) {
    validate_template_meta(&c.field("metadata"), out);
    validate_claim_spec(&c.field("spec"), out);
}

/// Metadata of an object that is made later (`ValidateTemplateObjectMeta`).
pub(super) fn validate_template_meta(metadata: &Cursor<'_>, out: &mut Errors) {
    out.extend(validate_annotations(metadata.value.get("annotations"), &metadata.path.child("annotations")));
    out.extend(validate_labels(metadata.value.get("labels"), &metadata.path.child("labels")));
    for (name, value) in metadata.value.entries() {
        if !matches!(name.as_str(), "labels" | "annotations") && !value.is_zero() {
            metadata.field(name).forbidden(out, "cannot be set");
        }
    }
}

/// Access modes of a claim or volume.
pub(super) fn validate_access_modes(c: &Cursor<'_>, out: &mut Errors) {
    let modes = || c.value.items().iter().filter_map(Value::as_str);
    for mode in modes().filter(|mode| !ACCESS_MODES.contains(mode)) {
        out.push(FieldError::not_supported(&c.path, mode, &ACCESS_MODES));
    }
    let once = modes().any(|mode| mode == "ReadWriteOncePod");
    if once && modes().any(|mode| mode != "ReadWriteOncePod" && ACCESS_MODES.contains(&mode)) {
        c.forbidden(out, "may not use ReadWriteOncePod with other access modes");
    }
}

/// `ValidatePersistentVolumeClaimSpec`.
pub(super) fn validate_claim_spec(spec: &Cursor<'_>, out: &mut Errors) {
    let modes = spec.field("accessModes");
    if modes.is_empty() {
        modes.required(out, "at least 1 access mode is required");
    }
    validate_label_selector(&spec.field("selector"), out);
    validate_access_modes(&modes, out);
    let resources = spec.field("resources");
    let storage = Cursor::new(&resources.value["requests"]["storage"], resources.path.key("storage"));
    match quantity(storage.value) {
        None => storage.required(out, ""),
        Some(amount) if amount.sign() <= 0 => validate_positive(&storage, out),
        Some(_) => validate_amount("storage", &storage, out),
    }
    for name in ["storageClassName", "volumeAttributesClassName"] {
        if !spec.text_of(name).is_empty() {
            spec.field(name).check(out, dns1123_subdomain);
        }
    }
    if spec.has("volumeMode") {
        spec.field("volumeMode").among(out, &["Block", "Filesystem"]);
    }
    validate_data_sources(spec, out);
}

fn validate_data_sources(spec: &Cursor<'_>, out: &mut Errors) {
    let (source, reference) = (spec.field("dataSource"), spec.field("dataSourceRef"));
    for c in [&source, &reference].into_iter().filter(|c| c.is_set()) {
        for name in ["name", "kind"] {
            if c.text_of(name).is_empty() {
                c.field(name).required(out, "");
            }
        }
        let (group, kind) = (c.text_of("apiGroup"), c.text_of("kind"));
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            c.invalid_as(out, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
        }
        if !group.is_empty() {
            c.field("apiGroup").check(out, dns1123_subdomain);
        }
    }
    let namespace = reference.field("namespace");
    if !namespace.text().is_empty() {
        namespace.check(out, dns1123_label);
        if source.is_set() {
            spec.invalid_as(
                out,
                "dataSource",
                "may not be specified when dataSourceRef.namespace is specified",
            );
        }
    } else if source.is_set() && reference.is_set() {
        let same = ["apiGroup", "kind", "name"].iter().all(|f| source.value[*f] == reference.value[*f]);
        if !same {
            spec.invalid_as(out, "dataSource", "must match dataSourceRef");
        }
    }
}

fn validate_update(new: &Cursor<'_>, old: &Value, write: &Write<'_>, out: &mut Errors) {
    if write.subresource == "status" {
        return validate_status(new, out);
    }
    let spec = new.field("spec");
    validate_claim_spec(&spec, out);
    let before = &old["spec"];
    let mut munged = spec.value.clone();
    let copy = |munged: &mut Value, field: &str| match before.get(field) {
        Some(value) => {
            munged.insert(field, value);
        }
        None => {
            munged.remove(field);
        }
    };
    if before["volumeName"].is_zero() {
        copy(&mut munged, "volumeName");
    }
    let class =
        |object: &Value| object["metadata"]["annotations"].get(BETA_CLASS).and_then(Value::as_smol).cloned();
    let given = spec.value["storageClassName"].as_smol().cloned();
    if before["storageClassName"].is_null() && given.is_some() && class(old).is_none_or(|c| Some(c) == given)
    {
        copy(&mut munged, "storageClassName");
    }
    let bound = new.value["status"]["phase"].as_str() == Some("Bound");
    if bound && !munged["resources"]["requests"].is_null() {
        munged.set("resources.requests.storage", &before["resources"]["requests"]["storage"]);
    }
    if bound && !munged["volumeAttributesClassName"].is_null() {
        copy(&mut munged, "volumeAttributesClassName");
    }
    if munged != *before {
        spec.forbidden(
            out,
            format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                 claims\n{}",
                crate::shown::difference("io.k8s.api.core.v1.PersistentVolumeClaimSpec", before, &munged)
            ),
        );
    }
    let resources = spec.field("resources");
    let requests = resources.field("requests");
    let storage = requests.field("storage");
    let size = |v: &Value| quantity(v).unwrap_or(base::Quantity::ZERO);
    if size(storage.value) < size(&before["resources"]["requests"]["storage"])
        && size(storage.value) <= size(&old["status"]["capacity"]["storage"])
    {
        storage.forbidden(out, "field can not be less than status.capacity");
    }
    let mode = spec.field("volumeMode");
    mode.at(crate::Path::new("volumeMode")).immutable(out, &before["volumeMode"]);
    let attributes = spec.field("volumeAttributesClassName");
    if !before["volumeAttributesClassName"].is_null() {
        if !attributes.is_set() {
            attributes.forbidden(out, "update from non-nil value to nil is forbidden");
        } else if attributes.text().is_empty() {
            attributes.forbidden(out, "update from non-nil value to an empty string is forbidden");
        }
    }
}

fn validate_status(new: &Cursor<'_>, out: &mut Errors) {
    if new.value["spec"]["accessModes"].is_zero() {
        out.push(FieldError::required(&crate::Path::new("Spec.accessModes"), ""));
    }
    let status = new.field("status");
    for list in ["capacity", "allocatedResources"] {
        let amounts = status.field(list);
        for (name, value) in amounts.value.entries() {
            if let Some(amount) = quantity(value).filter(|q| q.sign() < 0) {
                let path = amounts.path.key(name);
                out.push(FieldError::invalid(&path, amount.value(), "must be a valid resource quantity"));
            }
        }
    }
}
