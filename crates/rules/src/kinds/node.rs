//! Nodes and namespaces.

use schema::Value;

use super::pod::scheduling::validate_taints;
use super::{KindRules, Write};
use crate::field::{Errors, FieldError};
use crate::names::{config_map_key, dns1123_label, dns1123_subdomain, qualified_name};
use crate::net::{cidr, parse_cidr};
use crate::quantities::validate_amount;
use crate::{Cursor, Path};

pub(super) const NODES: KindRules = KindRules {
    defaults: |node| {
        link_pod_cidrs(node);
        // What is allocatable is all there is, unless the node says otherwise.
        let capacity = node["status"]["capacity"].clone();
        if !capacity.is_zero() && node["status"]["allocatable"].is_zero() {
            node.set("status.allocatable", capacity);
        }
    },
    prepare_update: |new, old, write| {
        if write.subresource == "status" {
            new.insert("spec", old["spec"].clone());
        }
    },
    validate: |node, _, out| {
        validate_resources(node, out);
        validate_spec(node, out);
    },
    validate_update: validate_node_update,
    ..KindRules::NONE
};

/// The first range is also there by itself, for old clients.
fn link_pod_cidrs(node: &mut Value) {
    let Some(spec) = node.get_mut("spec") else { return };
    let single = spec["podCIDR"].as_smol().cloned().unwrap_or_default();
    match (single.is_empty(), spec["podCIDRs"].items().first().cloned()) {
        (false, first) if first.as_ref().and_then(Value::as_str) != Some(&single) => {
            spec.insert("podCIDRs", [single]);
        }
        (true, Some(first)) => {
            spec.insert("podCIDR", first);
        }
        _ => {}
    }
}

fn validate_resources(node: &Cursor<'_>, out: &mut Errors) {
    let status = node.field("status");
    for list in ["capacity", "allocatable"] {
        let amounts = status.field(list);
        for (name, value) in amounts.value.entries() {
            validate_amount(name, &Cursor::new(value, amounts.path.child(name)), out);
        }
    }
}

fn validate_spec(node: &Cursor<'_>, out: &mut Errors) {
    let spec = node.field("spec");
    // Upstream names taints under metadata.
    let path = Path::new("metadata.taints");
    validate_taints(&spec.field("taints"), &path, out);
    let ranges = spec.field("podCIDRs");
    ranges.items().for_each(|range| range.check(out, cidr));
    if ranges.len() > 1 {
        let families: Vec<bool> =
            ranges.items().filter_map(|r| parse_cidr(r.text())).map(|(ip, _)| ip.is_ipv4()).collect();
        let dual = families.contains(&true) && families.contains(&false);
        if !dual || ranges.len() > 2 {
            ranges.invalid(out, "may specify no more than one CIDR for each IP family");
        }
    }
}

fn validate_node_update(new: &Cursor<'_>, old: &Value, write: &Write<'_>, out: &mut Errors) {
    if write.subresource != "status" {
        validate_resources(new, out);
        validate_spec(new, out);
    }
    validate_resources(new, out);
    let (spec, status) = (new.field("spec"), new.field("status"));
    let addresses = status.field("addresses");
    for (i, address) in addresses.items().enumerate() {
        if addresses.value.items()[..i].contains(address.value) {
            address.duplicate(out);
        }
    }
    let (before, ranges) = (&old["spec"], spec.field("podCIDRs"));
    if write.subresource == "status" {
        validate_ranges(&ranges, out);
    }
    let old_ranges = before["podCIDRs"].items();
    if !old_ranges.is_empty() {
        const FIXED: &str = "node updates may not change podCIDR except from \"\" to valid";
        let now = ranges.value.items();
        if now.len() != old_ranges.len() {
            ranges.forbidden(out, FIXED);
        } else {
            now.iter().zip(old_ranges).filter(|(a, b)| a != b).for_each(|_| ranges.forbidden(out, FIXED));
        }
    }
    let provider = spec.field("providerID");
    if !before["providerID"].is_zero() && provider.value != &before["providerID"] {
        provider.forbidden(out, "node updates may not change providerID except from \"\" to valid");
    }
    let config = spec.field("configSource");
    if config.is_set() {
        validate_config_source(&config, out);
    }
    let path = Path::new("metadata.taints");
    validate_taints(&spec.field("taints"), &path, out);
    if spec.value["externalID"] != before["externalID"] {
        spec.field("externalID").forbidden(out, "may not be updated");
    }
}

fn validate_ranges(ranges: &Cursor<'_>, out: &mut Errors) {
    ranges.items().for_each(|range| range.check(out, cidr));
}

fn validate_config_source(c: &Cursor<'_>, out: &mut Errors) {
    let map = c.field("configMap");
    if !map.is_set() {
        return c.invalid(out, "exactly one reference subfield must be non-nil");
    }
    for name in ["uid", "resourceVersion"] {
        if !map.text_of(name).is_empty() {
            map.field(name).forbidden(out, format!("{name} must not be set in spec"));
        }
    }
    let rules: [(&str, fn(&str) -> Vec<String>); 3] =
        [("namespace", dns1123_label), ("name", dns1123_subdomain), ("kubeletConfigKey", config_map_key)];
    for (name, rule) in rules {
        match map.text_of(name) {
            "" => map.field(name).required(out, format!("{name} must be set")),
            _ => map.field(name).check(out, rule),
        }
    }
}

pub(super) const NAMESPACES: KindRules = KindRules {
    defaults: |namespace| {
        // Selectors find a namespace by its own name.
        let name = namespace["metadata"]["name"].as_smol().cloned().unwrap_or_default();
        if !name.is_empty() {
            let metadata = namespace.make_map().entry_map("metadata");
            metadata.entry_map("labels").insert("kubernetes.io/metadata.name", name);
        }
    },
    prepare_create: |namespace, _| {
        namespace.insert("status", schema::value!({"phase": "Active"}));
        let spec = namespace.make_map().entry_map("spec");
        let finalizers = spec.entry_list("finalizers");
        if !finalizers.iter().any(|f| f.as_str() == Some("kubernetes")) {
            finalizers.push(Value::str("kubernetes"));
        }
    },
    prepare_update: |new, old, write| match write.subresource {
        "finalize" => {
            new.insert("status", old["status"].clone());
        }
        _ => {
            new.set("spec.finalizers", &old["spec"]["finalizers"]);
        }
    },
    validate: |namespace, _, out| {
        let spec = namespace.field("spec");
        let finalizers = spec.field("finalizers");
        finalizers.items().for_each(|f| validate_finalizer(&f.at(finalizers.path), out));
    },
    validate_update: |new, _, write, out| match write.subresource {
        "status" => validate_phase(new, out),
        "finalize" => {
            let spec = new.field("spec");
            spec.field("finalizers").items().for_each(|f| validate_finalizer(&f, out));
        }
        _ => {}
    },
    ..KindRules::NONE
};

fn validate_finalizer(c: &Cursor<'_>, out: &mut Errors) {
    c.check(out, qualified_name);
    if !c.text().contains('/') && !matches!(c.text(), "kubernetes" | "orphan" | "foregroundDeletion") {
        c.invalid(out, "name is neither a standard finalizer name nor is it fully qualified");
    }
}

fn validate_phase(namespace: &Cursor<'_>, out: &mut Errors) {
    let phase = namespace.value["status"]["phase"].as_str().unwrap_or("");
    let deleting = !namespace.value["metadata"]["deletionTimestamp"].is_zero();
    let (wanted, when) = match deleting {
        true => ("Terminating", "not empty"),
        false => ("Active", "empty"),
    };
    if phase != wanted {
        out.push(FieldError::invalid(
            &Path::new("status.Phase"),
            phase,
            format!("may only be '{wanted}' if `deletionTimestamp` is {when}"),
        ));
    }
}
