//! PersistentVolumes.

use schema::Value;

use super::claim::validate_access_modes;
use super::pod::paths::validate_no_backsteps;
use super::pod::scheduling::validate_node_selector;
use super::pod::volume_sources::{validate_csi_driver_name, validate_plain_source};
use super::{KindRules, Write};
use crate::field::{BadValue, Errors, FieldError};
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::quantities::{quantity, validate_positive};
use crate::{Cursor, Path};

pub(super) const RULES: KindRules = KindRules {
    prepare_create: |volume, write| {
        volume.insert("status", schema::value!({"phase": "Pending"}));
        volume.set("status.lastPhaseTransitionTime", write.now);
    },
    prepare_update: |new, old, write| {
        if write.subresource == "status" && new["status"]["phase"] != old["status"]["phase"] {
            new.set("status.lastPhaseTransitionTime", write.now);
        }
    },
    validate: |volume, _, out| validate(volume, out),
    validate_update,
    ..KindRules::NONE
};

/// Sources in upstream's order, and the word that the "more than one" error uses.
const SOURCES: [(&str, &str); 22] = [
    ("hostPath", "hostPath"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("nfs", "nfs"),
    ("rbd", "rbd"),
    ("quobyte", "quobyte"),
    ("cephfs", "cephFS"),
    ("iscsi", "iscsi"),
    ("cinder", "cinder"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO"),
    ("local", "local"),
    ("storageos", "storageos"),
    ("csi", "csi"),
];
const BETA_TO_GA: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

fn validate(volume: &Cursor<'_>, out: &mut Errors) {
    let name = volume.value.str_at("metadata.name").unwrap_or("");
    validate_volume_spec(&volume.field("spec"), name, false, out);
}

/// `ValidatePersistentVolumeSpec`; `inline` for the volumes of attachments.
pub(super) fn validate_volume_spec(spec: &Cursor<'_>, name: &str, inline: bool, out: &mut Errors) {
    const INLINE: &str = "may not be specified in the context of inline volumes";
    if inline {
        for field in ["claimRef", "capacity"] {
            if !spec.field(field).is_empty() {
                spec.field(field).forbidden(out, INLINE);
            }
        }
        if !spec.has("csi") {
            spec.field("csi").required(out, "has to be specified in the context of inline volumes");
        }
    }
    let modes = spec.field("accessModes");
    if modes.is_empty() {
        modes.required(out, "");
    }
    validate_access_modes(&modes, out);
    if !inline {
        validate_capacity(&spec.field("capacity"), out);
    }
    let policy = spec.field("persistentVolumeReclaimPolicy");
    if !policy.text().is_empty() {
        match inline {
            true if policy.text() != "Retain" => {
                policy.forbidden(out, "may only be Retain in the context of inline volumes");
            }
            true => {}
            false => policy.among(out, &["Delete", "Recycle", "Retain"]),
        }
    }
    let affinity = spec.field("nodeAffinity");
    if affinity.is_set() {
        let required = affinity.field("required");
        match (inline, required.is_set()) {
            (true, _) => affinity.forbidden(out, INLINE),
            (false, true) => validate_node_selector(&required, out),
            (false, false) => required.required(out, "must specify required node constraints"),
        }
    }
    validate_sources(spec, name, out);
    if spec.value["hostPath"]["path"].as_str().is_some_and(is_root) && policy.text() == "Recycle" {
        policy.forbidden(out, "may not be 'recycle' for a hostPath mount of '/'");
    }
    validate_classes(spec, inline, INLINE, out);
}

fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| matches!(part, "" | "."))
}

fn validate_capacity(c: &Cursor<'_>, out: &mut Errors) {
    if c.is_empty() {
        c.required(out, "");
    }
    if c.value.get("storage").is_none() || c.len() > 1 {
        let shown = if c.value.is_null() { BadValue::null() } else { BadValue::from(c.value) };
        out.push(FieldError::not_supported(&c.path, shown, &["storage"]));
    }
    for (name, value) in c.value.entries() {
        let amount = Cursor::new(value, c.path.key(name));
        if let Some(negative) = quantity(value).filter(|q| q.sign() < 0) {
            amount.invalid_as(out, negative.value(), "must be a valid resource quantity");
        }
        validate_positive(&amount, out);
    }
}

fn validate_sources(spec: &Cursor<'_>, name: &str, out: &mut Errors) {
    let mut found = false;
    for (kind, shown) in SOURCES.iter().filter(|(kind, _)| spec.has(kind)) {
        if found && *kind != "flexVolume" {
            spec.field(shown).forbidden(out, "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        let source = spec.field(kind);
        match *kind {
            "local" => {
                let path = source.field("path");
                match path.text() {
                    "" => path.required(out, ""),
                    _ => validate_no_backsteps(&path, out),
                }
                if !spec.has("nodeAffinity") {
                    spec.field("nodeAffinity").required(out, "Local volume requires node affinity");
                }
            }
            "csi" => validate_csi(&source, out),
            kind => {
                validate_plain_source(kind, &source, name, out);
                validate_secret_namespace(kind, &source, out);
            }
        }
    }
    if !found {
        spec.required(out, "must specify a volume type");
    }
}

/// Secrets of volumes live in a namespace that must be named.
fn validate_secret_namespace(kind: &str, c: &Cursor<'_>, out: &mut Errors) {
    let secret = c.field("secretRef");
    match kind {
        "cinder" | "storageos" if secret.is_set() && secret.text_of("namespace").is_empty() => {
            secret.field("namespace").required(out, "");
        }
        "iscsi" if secret.is_set() && secret.text_of("name").is_empty() => {
            secret.field("name").required(out, "");
        }
        "azureFile" if c.has("secretNamespace") && c.text_of("secretNamespace").is_empty() => {
            c.field("secretNamespace").required(out, "");
        }
        "glusterfs" if c.has("endpointsNamespace") => {
            let namespace = c.field("endpointsNamespace");
            match namespace.text() {
                "" => namespace
                    .invalid(out, "if the endpointnamespace is set, it must be a valid namespace name"),
                _ => namespace.check(out, dns1123_label),
            }
        }
        _ => {}
    }
}

fn validate_csi(c: &Cursor<'_>, out: &mut Errors) {
    validate_csi_driver_name(&c.field("driver"), out);
    if c.text_of("volumeHandle").is_empty() {
        c.field("volumeHandle").required(out, "");
    }
    for name in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let secret = c.field(name);
        if secret.is_set() {
            secret.field("name").required_name(out, dns1123_subdomain);
            secret.field("namespace").required_name(out, dns1123_label);
        }
    }
}

fn validate_classes(spec: &Cursor<'_>, inline: bool, refused: &str, out: &mut Errors) {
    let class = spec.field("storageClassName");
    if !class.text().is_empty() {
        match inline {
            true => class.forbidden(out, refused),
            false => class.check(out, dns1123_subdomain),
        }
    }
    let mode = spec.field("volumeMode");
    if mode.is_set() {
        match inline {
            true if mode.text() != "Filesystem" => mode.forbidden(
                out,
                "may not specify volumeMode other than Filesystem in the context of inline volumes",
            ),
            true => {}
            false => mode.among(out, &["Block", "Filesystem"]),
        }
    }
    let attributes = spec.field("volumeAttributesClassName");
    if attributes.is_set() {
        match attributes.text() {
            "" => attributes.required(out, "an empty string is disallowed"),
            _ => attributes.check(out, dns1123_subdomain),
        }
        if !spec.has("csi") {
            spec.field("csi").required(out, "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn validate_update(new: &Cursor<'_>, old: &Value, write: &Write<'_>, out: &mut Errors) {
    if write.subresource == "status" {
        return;
    }
    // Upstream's strategy and its validation of changes both look at the whole volume.
    validate(new, out);
    validate(new, out);
    let (spec, before) = (new.field("spec"), &old["spec"]);
    let changed = SOURCES.iter().any(|(kind, _)| {
        let mut source = spec.value[*kind].clone();
        if *kind == "csi" && before["csi"]["controllerExpandSecretRef"].is_null() && !before["csi"].is_null()
        {
            source.remove("controllerExpandSecretRef");
        }
        source != before[*kind]
    });
    if changed {
        let source = |spec: &Value| {
            let mut out = Value::map();
            for (kind, _) in SOURCES {
                if let Some(value) = spec.get(kind) {
                    out.insert(kind, value);
                }
            }
            out
        };
        let difference = crate::shown::difference(
            "io.k8s.api.core.v1.PersistentVolumeSource",
            &source(before),
            &source(spec.value),
        );
        spec.field("persistentvolumesource")
            .forbidden(out, format!("spec.persistentvolumesource is immutable after creation\n{difference}"));
    }
    spec.field("volumeMode").at(Path::new("volumeMode")).immutable(out, &before["volumeMode"]);
    let affinity = spec.field("nodeAffinity");
    if !before["nodeAffinity"].is_null() && !same_affinity(affinity.value, &before["nodeAffinity"]) {
        affinity
            .at(Path::new("nodeAffinity"))
            .invalid(out, "field is immutable, except for updating from beta label to GA");
    }
    let attributes = spec.field("volumeAttributesClassName");
    if !before["volumeAttributesClassName"].is_null() && !attributes.is_set() {
        attributes.forbidden(out, "update from non-nil value to nil is forbidden");
    }
}

/// Equal but for keys that moved from beta to GA.
fn same_affinity(new: &Value, old: &Value) -> bool {
    let key = |value: &Value| value["key"].as_str().unwrap_or("").to_owned();
    match (new, old) {
        (Value::Map(a), Value::Map(b)) => {
            let moved = BETA_TO_GA.iter().any(|(beta, ga)| key(old) == *beta && key(new) == *ga);
            a.len() == b.len()
                && a.iter()
                    .zip(b.iter())
                    .all(|((k, a), (l, b))| k == l && (same_affinity(a, b) || (k == "key" && moved)))
        }
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_affinity(a, b))
        }
        _ => new == old,
    }
}
