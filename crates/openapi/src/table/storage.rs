//! The cells of volumes, classes, drivers and devices.

use schema::{SmolStr, Value};

use super::Seconds;
use super::format::{age, deleting, joined, text};

const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// Access modes in upstream's order, with their short forms.
const ACCESS_MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

fn access_modes(modes: &[Value]) -> String {
    let has = |mode: &str| modes.iter().any(|m| m.as_str() == Some(mode));
    let short: Vec<&str> =
        ACCESS_MODES.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect();
    short.join(",")
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.map_at("metadata.annotations")?.get_str(name)
}

fn class(object: &Value) -> SmolStr {
    annotation(object, CLASS_ANNOTATION)
        .or_else(|| object.str_at("spec.storageClassName"))
        .unwrap_or("")
        .into()
}

fn phase(object: &Value) -> Value {
    if deleting(object) { Value::str("Terminating") } else { text(object, "status.phase", "") }
}

pub(super) fn persistent_volume(object: &Value, now: Seconds) -> Vec<Value> {
    let claim = object.at("spec.claimRef").map(|claim| {
        let part = |name: &str| claim.str_at(name).unwrap_or_default();
        format!("{}/{}", part("namespace"), part("name"))
    });
    vec![
        text(object, "spec.capacity.storage", "0"),
        access_modes(object.items_at("spec.accessModes")).into(),
        text(object, "spec.persistentVolumeReclaimPolicy", ""),
        phase(object),
        claim.unwrap_or_default().into(),
        class(object).into(),
        text(object, "spec.volumeAttributesClassName", "<unset>"),
        text(object, "status.reason", ""),
        age(object, now),
        text(object, "spec.volumeMode", "<unset>"),
    ]
}

pub(super) fn persistent_volume_claim(object: &Value, now: Seconds) -> Vec<Value> {
    let bound = object.str_at("spec.volumeName").is_some_and(|name| !name.is_empty());
    let (capacity, modes) = match bound {
        true => (
            text(object, "status.capacity.storage", "0"),
            access_modes(object.items_at("status.accessModes")),
        ),
        false => (Value::str(""), String::new()),
    };
    vec![
        phase(object),
        text(object, "spec.volumeName", ""),
        capacity,
        modes.into(),
        class(object).into(),
        text(object, "spec.volumeAttributesClassName", "<unset>"),
        age(object, now),
        text(object, "spec.volumeMode", "<unset>"),
    ]
}

pub(super) fn storage_class(object: &Value, now: Seconds) -> Vec<Value> {
    vec![
        text(object, "provisioner", ""),
        text(object, "reclaimPolicy", "Delete"),
        text(object, "volumeBindingMode", "Immediate"),
        object.bool_at("allowVolumeExpansion").unwrap_or(false).into(),
        age(object, now),
    ]
}

/// True for a class that claims without a class get.
pub(super) fn is_default_class(object: &Value) -> bool {
    DEFAULT_CLASS.iter().any(|name| annotation(object, name) == Some("true"))
}

pub(super) fn csi_driver(object: &Value, now: Seconds) -> Vec<Value> {
    let flag = |name: &str, otherwise: bool| {
        Value::Bool(object.bool_at(&format!("spec.{name}")).unwrap_or(otherwise))
    };
    let audiences: Vec<Value> =
        object.items_at("spec.tokenRequests").iter().filter_map(|t| t.get("audience").cloned()).collect();
    vec![
        flag("attachRequired", true),
        flag("podInfoOnMount", false),
        flag("storageCapacity", false),
        joined(&audiences, "<unset>"),
        flag("requiresRepublish", false),
        joined(object.items_at("spec.volumeLifecycleModes"), "<none>"),
        age(object, now),
    ]
}

pub(super) fn csi_node(object: &Value, now: Seconds) -> Vec<Value> {
    vec![(object.items_at("spec.drivers").len() as i64).into(), age(object, now)]
}

pub(super) fn volume_attachment(object: &Value, now: Seconds) -> Vec<Value> {
    vec![
        text(object, "spec.attacher", ""),
        text(object, "spec.source.persistentVolumeName", ""),
        text(object, "spec.nodeName", ""),
        object.bool_at("status.attached").unwrap_or(false).into(),
        age(object, now),
    ]
}

pub(super) fn volume_attributes_class(object: &Value, now: Seconds) -> Vec<Value> {
    vec![text(object, "driverName", ""), age(object, now)]
}

pub(super) fn resource_claim(object: &Value, now: Seconds) -> Vec<Value> {
    let mut states = Vec::new();
    if deleting(object) {
        states.push("deleted");
    }
    if object.at("status.allocation").is_some() {
        states.push("allocated");
        if !object.items_at("status.reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if states.is_empty() {
        states.push("pending");
    }
    vec![states.join(",").into(), age(object, now)]
}

pub(super) fn resource_slice(object: &Value, now: Seconds) -> Vec<Value> {
    let node = object.str_at("spec.nodeName").unwrap_or_else(|| match object.bool_at("spec.allNodes") {
        Some(true) => "<all nodes>",
        _ => "<none>",
    });
    vec![node.into(), text(object, "spec.driver", ""), text(object, "spec.pool.name", ""), age(object, now)]
}
