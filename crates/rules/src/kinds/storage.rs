//! Storage classes, CSI drivers and nodes, attachments, capacities, volume attributes classes.

use schema::Value;

use super::pod::volume_sources::validate_csi_driver_name;
use super::volume::validate_volume_spec;
use super::{KindRules, Write};
use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::label_selector::validate_label_selector;
use crate::meta::{IMMUTABLE, NOT_NEGATIVE};
use crate::names::{dns1123_subdomain, label_key, qualified_name};
use crate::quantities::quantity;

/// Most parameters of a class (`maxProvisionerParameterLen`).
const MAX_PARAMETERS: usize = 512;
/// Most bytes of all parameters (`maxProvisionerParameterSize`).
const MAX_PARAMETER_BYTES: usize = 256 * 1024;
/// Longest name that a driver has for a node (`csiNodeIDLongerMaxLength`).
const MAX_NODE_ID: usize = 256;
/// Shortest time between two counts of a driver's volumes, in seconds.
const MIN_ALLOCATABLE_UPDATE_S: i64 = 10;
/// Shortest life of a token, in seconds.
const MIN_TOKEN_S: i64 = 600;

pub(super) const CLASSES: KindRules = KindRules {
    validate: |class, _, out| validate_class(class, out),
    validate_update: |new, old, _: &Write<'_>, out| {
        new.field("parameters").immutable(out, &old["parameters"]);
        new.field("provisioner").immutable(out, &old["provisioner"]);
        if new.value["reclaimPolicy"] != old["reclaimPolicy"] {
            new.field("reclaimPolicy").forbidden(out, "updates to reclaimPolicy are forbidden.");
        }
        new.field("volumeBindingMode").immutable(out, &old["volumeBindingMode"]);
        validate_topologies(&new.field("allowedTopologies"), out);
    },
    ..KindRules::NONE
};

fn validate_provisioner(c: &Cursor<'_>, out: &mut Errors) {
    match c.text() {
        "" => c.required(out, ""),
        text => c.each(out, qualified_name(&text.to_lowercase())),
    }
}

fn validate_parameters(c: &Cursor<'_>, required: bool, out: &mut Errors) {
    if c.len() > MAX_PARAMETERS {
        return out.push(FieldError::too_long(&c.path, MAX_PARAMETERS));
    }
    let mut bytes = 0;
    for (key, value) in c.value.entries() {
        if key.is_empty() {
            c.invalid_as(out, "", "field can not be empty.");
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > MAX_PARAMETER_BYTES {
        out.push(FieldError::too_long(&c.path, MAX_PARAMETER_BYTES));
    }
    if required && c.is_empty() {
        c.required(out, "");
    }
}

fn validate_class(class: &Cursor<'_>, out: &mut Errors) {
    validate_provisioner(&class.field("provisioner"), out);
    validate_parameters(&class.field("parameters"), false, out);
    if !class.text_of("reclaimPolicy").is_empty() {
        class.field("reclaimPolicy").among(out, &["Delete", "Retain"]);
    }
    let mode = class.field("volumeBindingMode");
    match mode.is_set() {
        true => mode.among(out, &["Immediate", "WaitForFirstConsumer"]),
        false => mode.required(out, ""),
    }
    validate_topologies(&class.field("allowedTopologies"), out);
}

fn validate_topologies(c: &Cursor<'_>, out: &mut Errors) {
    let mut seen: Vec<Vec<(&str, Vec<&str>)>> = Vec::new();
    for term in c.items() {
        let expressions = term.field("matchLabelExpressions");
        let mut labels: Vec<(&str, Vec<&str>)> = Vec::new();
        for (i, expression) in expressions.items().enumerate() {
            let (key, values) = (expression.field("key"), expression.field("values"));
            if values.is_empty() {
                values.required(out, "");
            }
            for (j, value) in values.items().enumerate() {
                if values.value.items()[..j].contains(value.value) {
                    value.duplicate(out);
                }
            }
            key.check(out, label_key);
            if expressions.value.items()[..i].iter().any(|e| e["key"] == *key.value) {
                key.duplicate(out);
            }
        }
        for expression in term.value["matchLabelExpressions"].items() {
            let mut values: Vec<&str> =
                expression["values"].items().iter().filter_map(Value::as_str).collect();
            values.sort_unstable();
            labels.push((expression["key"].as_str().unwrap_or(""), values));
        }
        labels.sort_unstable();
        // A term without labels counts as seen: upstream compares with terms that it has not read yet.
        if labels.is_empty() || seen.contains(&labels) {
            out.push(FieldError::duplicate(&expressions.path, ""));
        }
        seen.push(labels);
    }
}

pub(super) const DRIVERS: KindRules = KindRules {
    validate: |driver, _, out| {
        validate_driver(&driver.field("spec"), out);
    },
    validate_update: |new, old, _: &Write<'_>, out| {
        let (spec, before) = (new.field("spec"), &old["spec"]);
        spec.field("attachRequired")
            .at(crate::Path::new("spec.attachedRequired"))
            .immutable(out, &before["attachRequired"]);
        spec.field("fsGroupPolicy").immutable(out, &before["fsGroupPolicy"]);
        spec.field("volumeLifecycleModes").immutable(out, &before["volumeLifecycleModes"]);
        validate_tokens(&spec, out);
    },
    ..KindRules::NONE
};

fn validate_driver(spec: &Cursor<'_>, out: &mut Errors) {
    for (field, shown) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
        ("seLinuxMount", "seLinuxMount"),
    ] {
        if !spec.has(field) {
            spec.field(shown).required(out, "");
        }
    }
    if spec.has("fsGroupPolicy") {
        spec.field("fsGroupPolicy").among(out, &["File", "None", "ReadWriteOnceWithFSType"]);
    }
    validate_tokens(spec, out);
    for mode in spec.field("volumeLifecycleModes").items() {
        if !matches!(mode.text(), "Persistent" | "Ephemeral") {
            out.push(FieldError::not_supported(
                &spec.path.child("volumeLifecycleModes"),
                mode.text(),
                &["Ephemeral", "Persistent"],
            ));
        }
    }
}

fn validate_tokens(spec: &Cursor<'_>, out: &mut Errors) {
    let requests = spec.field("tokenRequests");
    for (i, request) in requests.items().enumerate() {
        let audience = request.field("audience");
        if requests.value.items()[..i].iter().any(|r| r["audience"] == *audience.value) {
            audience.duplicate(out);
        }
        let expiry = request.field("expirationSeconds");
        if expiry.is_set() && expiry.int() < MIN_TOKEN_S {
            expiry.invalid(out, "may not specify a duration less than 10 minutes");
        }
        if expiry.int() > 1 << 32 {
            expiry.invalid(out, "may not specify a duration larger than 2^32 seconds");
        }
    }
    let period = spec.field("nodeAllocatableUpdatePeriodSeconds");
    if period.is_set() && period.int() < MIN_ALLOCATABLE_UPDATE_S {
        period.invalid(out, format!("must be greater than or equal to {MIN_ALLOCATABLE_UPDATE_S} seconds"));
    }
    let in_secrets = spec.field("serviceAccountTokenInSecrets");
    if in_secrets.is_set() && requests.is_empty() {
        in_secrets.invalid(out, "serviceAccountTokenInSecrets is set but no tokenRequests are specified");
    }
}

pub(super) const NODES: KindRules = KindRules {
    validate: |node, _, out| validate_node(node, out),
    validate_update: |new, old, _: &Write<'_>, out| {
        validate_node(new, out);
        let path = crate::Path::new("CSINodeDriver");
        for before in old["spec"]["drivers"].items() {
            let now = new.value["spec"]["drivers"].items().iter().find(|d| d["name"] == before["name"]);
            if let Some(now) = now
                && ["nodeID", "topologyKeys"].iter().any(|f| now[*f] != before[*f])
            {
                out.push(FieldError::invalid(&path, now, IMMUTABLE));
            }
        }
    },
    ..KindRules::NONE
};

fn validate_driver_name(c: &Cursor<'_>, out: &mut Errors) {
    match c.text().is_empty() {
        true => c.required(out, ""),
        false => validate_csi_driver_name(c, out),
    }
}

fn validate_node(node: &Cursor<'_>, out: &mut Errors) {
    let spec = node.field("spec");
    let drivers = spec.field("drivers");
    for (i, driver) in drivers.items().enumerate() {
        let (name, id) = (driver.field("name"), driver.field("nodeID"));
        validate_driver_name(&name, out);
        match id.text().len() {
            0 => id.required(out, ""),
            len if len > MAX_NODE_ID => id.invalid(out, format!("must be {MAX_NODE_ID} characters or less")),
            _ => {}
        }
        if driver.has("allocatable") {
            driver.field("allocatable").field("count").not_negative(out);
        }
        if drivers.value.items()[..i].iter().any(|d| d["name"] == *name.value) {
            name.duplicate(out);
        }
        let keys = driver.field("topologyKeys");
        for (j, key) in keys.items().enumerate() {
            if key.text().is_empty() {
                driver.required(out, "");
            }
            if keys.value.items()[..j].contains(key.value) {
                out.push(FieldError::duplicate(&driver.path, key.text()));
            }
            for message in qualified_name(key.text()) {
                driver.invalid_as(out, keys.value, message);
            }
        }
    }
}

pub(super) const ATTACHMENTS: KindRules = KindRules {
    validate: |attachment, _, out| validate_attachment(attachment, out),
    validate_update: |new, old, write: &Write<'_>, out| {
        validate_attachment(new, out);
        if write.subresource.is_empty() {
            let spec = new.field("spec");
            if spec.value != &old["spec"] {
                spec.invalid(out, IMMUTABLE);
            }
        }
    },
    ..KindRules::NONE
};

fn validate_attachment(attachment: &Cursor<'_>, out: &mut Errors) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let spec = attachment.field("spec");
    validate_driver_name(&spec.field("attacher"), out);
    let source = spec.field("source");
    let (volume, inline) = (source.field("persistentVolumeName"), source.field("inlineVolumeSpec"));
    match (volume.is_set(), inline.is_set()) {
        (false, false) => source.required(out, ONE),
        (true, true) => source.forbidden(out, ONE),
        (true, false) => {
            if volume.text().is_empty() {
                volume.required(out, "must specify non empty persistentVolumeName");
            }
            volume.check(out, dns1123_subdomain);
        }
        (false, true) => validate_volume_spec(&inline, "", true, out),
    }
    spec.field("nodeName").check(out, dns1123_subdomain);
    validate_parameters(&attachment.field("status").field("attachmentMetadata"), false, out);
}

pub(super) const CAPACITIES: KindRules = KindRules {
    validate: |capacity, _, out| validate_capacity(capacity, out),
    validate_update: |new, old, _: &Write<'_>, out| {
        validate_capacity(new, out);
        new.field("nodeTopology").immutable(out, &old["nodeTopology"]);
        new.field("storageClassName").immutable(out, &old["storageClassName"]);
    },
    ..KindRules::NONE
};

fn validate_capacity(capacity: &Cursor<'_>, out: &mut Errors) {
    capacity.field("storageClassName").check(out, dns1123_subdomain);
    validate_label_selector(&capacity.field("nodeTopology"), out);
    for name in ["capacity", "maximumVolumeSize"] {
        let amount = capacity.field(name);
        if quantity(amount.value).is_some_and(|q| q.sign() < 0) {
            amount.invalid(out, NOT_NEGATIVE);
        }
    }
}

pub(super) const ATTRIBUTES_CLASSES: KindRules = KindRules {
    validate: |class, _, out| {
        validate_provisioner(&class.field("driverName"), out);
        validate_parameters(&class.field("parameters"), true, out);
    },
    validate_update: |new, old, _: &Write<'_>, out| {
        new.field("driverName").immutable(out, &old["driverName"]);
        new.field("parameters").immutable(out, &old["parameters"]);
    },
    ..KindRules::NONE
};

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn topologies() {
        for (terms, errors) in [
            (value!([{"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]}]), "[]"),
            (value!([{}]), "[0].matchLabelExpressions: Duplicate value: \"\""),
            (
                value!([{"matchLabelExpressions": [{"key": "zone", "values": ["a", "a"]}]}]),
                "[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
            ),
        ] {
            let mut out = Errors::new();
            validate_topologies(&Cursor::root(&terms), &mut out);
            assert_eq!(crate::aggregate(&out), errors);
        }
    }
}
