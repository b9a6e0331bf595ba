//! What an update of a pod may change.

use schema::{Map, Value};

use super::super::Write;
use super::annotations;
use super::scheduling::validate_tolerations;
use super::status::qos_class;
use super::validate_pod;
use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::names::{dns1123_subdomain, inclusive_range, qualified_name};
use crate::net::{ip, is_dual_stack};

const MAX_DEADLINE: i64 = i32::MAX as i64;
const CHANGEABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
     `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
     tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn prepare_update(new: &mut Value, old: &Value, write: &Write<'_>) {
    match write.subresource {
        "status" => {
            let spec = old["spec"].clone();
            new.insert("spec", spec);
            // An owner that is gone may not come back by a status update.
            keep_status(new, old);
        }
        "ephemeralcontainers" => {
            let ephemeral = new["spec"]["ephemeralContainers"].clone();
            *new = with_metadata(old, new);
            set_or_remove(new, "ephemeralContainers", ephemeral);
        }
        "resize" => keep_all_but_resources(new, old),
        // The server itself makes these changes, and only what they are for.
        "binding" | "eviction" => {}
        _ => {
            let status = old["status"].clone();
            new.insert("status", status);
        }
    }
}

fn set_or_remove(pod: &mut Value, field: &str, value: Value) {
    let spec = pod.make_map().entry_map("spec");
    match value.is_zero() {
        true => spec.remove(field),
        false => spec.insert(field, value),
    };
}

/// The old object with the new one's managedFields and resourceVersion.
fn with_metadata(old: &Value, new: &Value) -> Value {
    let mut out = old.clone();
    for field in ["managedFields", "resourceVersion"] {
        match new["metadata"].get(field) {
            Some(value) => out.make_map().entry_map("metadata").insert(field, value),
            None => out.make_map().entry_map("metadata").remove(field),
        };
    }
    out
}

fn keep_status(new: &mut Value, old: &Value) {
    // The quality of service never changes; a writer that does not know of it keeps it.
    if new["status"]["qosClass"].is_zero() && !old["status"]["qosClass"].is_zero() {
        new.make_map().entry_map("status").insert("qosClass", &old["status"]["qosClass"]);
    }
}

fn keep_all_but_resources(new: &mut Value, old: &Value) {
    let mut out = with_metadata(old, new);
    for kind in ["containers", "initContainers"] {
        let given: Vec<(Value, Value, Value)> = new["spec"][kind]
            .items()
            .iter()
            .map(|c| (c["name"].clone(), c["resources"].clone(), c["resizePolicy"].clone()))
            .collect();
        let Some(Value::List(containers)) = out.pointer_mut(&["spec", kind]) else { continue };
        for container in containers.iter_mut() {
            if let Some((_, resources, policy)) = given.iter().find(|(name, ..)| *name == container["name"]) {
                container.insert("resources", resources);
                match policy.is_zero() {
                    true => container.remove("resizePolicy"),
                    false => container.insert("resizePolicy", policy),
                };
            }
        }
    }
    *new = out;
}

pub(super) fn validate_update(new: &Cursor<'_>, old: &Value, write: &Write<'_>, out: &mut Errors) {
    match write.subresource {
        "status" => validate_status(new, old, out),
        "ephemeralcontainers" => validate_ephemeral(new, old, out),
        "resize" => validate_resize(new, old, out),
        "binding" | "eviction" => {}
        _ => validate_main(new, old, out),
    }
}

fn validate_main(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    validate_pod(new, out);
    let metadata = new.field("metadata");
    annotations::validate_update(&metadata.field("annotations"), &old["metadata"]["annotations"], out);
    let spec = new.field("spec");
    let before = &old["spec"];
    for kind in ["containers", "initContainers"] {
        let containers = spec.field(kind);
        if containers.len() != before[kind].items().len() {
            return containers.forbidden(out, "pod updates may not add or remove containers");
        }
        for container in containers.items() {
            let image = container.field("image");
            if image.text().is_empty() {
                image.required(out, "");
            }
            super::containers::validate_image_spaces(&container, out);
        }
    }
    if !validate_deadline(&spec.field("activeDeadlineSeconds"), &before["activeDeadlineSeconds"], out) {
        return;
    }
    validate_added_tolerations(&spec.field("tolerations"), &before["tolerations"], out);
    validate_gates(&spec.field("schedulingGates"), &before["schedulingGates"], out);
    if spec.value != before
        && let Some(difference) = fixed_difference(&spec, before, out)
    {
        spec.forbidden(out, format!("{CHANGEABLE}\n{difference}"));
    }
}

/// False when the comparison of the rest makes no sense any more.
fn validate_deadline(new: &Cursor<'_>, old: &Value, out: &mut Errors) -> bool {
    match (new.as_int(), old.as_int()) {
        (Some(seconds), _) if !(0..=MAX_DEADLINE).contains(&seconds) => {
            new.invalid(out, inclusive_range(0, MAX_DEADLINE));
            false
        }
        (Some(seconds), Some(before)) if before < seconds => {
            new.invalid(out, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            new.invalid(out, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

fn validate_added_tolerations(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        toleration.remove("tolerationSeconds");
        toleration
    };
    let kept: Vec<Value> = new.value.items().iter().map(without_seconds).collect();
    if old.items().iter().any(|toleration| !kept.contains(&without_seconds(toleration))) {
        return new.forbidden(out, "existing toleration can not be modified except its tolerationSeconds");
    }
    validate_tolerations(new, out);
}

fn validate_gates(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    for gate in new.items() {
        if !old.items().iter().any(|o| o["name"] == gate.value["name"]) {
            let name = gate.text_of("name");
            gate.field("name")
                .forbidden(out, format!("only deletion is allowed, but found new scheduling gate '{name}'"));
        }
    }
}

/// How two specs differ beyond what an update may change, or `None` when they do not.
fn fixed_difference(spec: &Cursor<'_>, before: &Value, out: &mut Errors) -> Option<String> {
    let mut munged = spec.value.clone();
    for kind in ["containers", "initContainers"] {
        if let Some(Value::List(containers)) = munged.get_mut(kind) {
            for (container, old) in containers.iter_mut().zip(before[kind].items()) {
                container.insert("image", &old["image"]);
            }
        }
    }
    let copy = |munged: &mut Value, field: &str| {
        match before.get(field) {
            Some(value) => munged.insert(field, value),
            None => munged.remove(field),
        };
    };
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        copy(&mut munged, field);
    }
    let grace = |spec: &Value| spec["terminationGracePeriodSeconds"].as_int();
    if grace(before).is_some_and(|seconds| seconds < 0) && grace(&munged) == Some(1) {
        copy(&mut munged, "terminationGracePeriodSeconds");
    }
    if !before["schedulingGates"].is_zero() {
        validate_gated(spec, before, out);
        copy(&mut munged, "nodeSelector");
        let affinity = before["affinity"]["nodeAffinity"].clone();
        match affinity.is_null() {
            true => {
                munged.remove_at("affinity.nodeAffinity");
            }
            false => {
                munged.set("affinity.nodeAffinity", affinity);
            }
        }
        if before["affinity"].is_null() && munged["affinity"].is_zero() {
            munged.remove("affinity");
        }
    }
    let plain =
        |value: &Value| -> Map { value.entries().iter().filter(|(_, v)| !v.is_zero()).cloned().collect() };
    if plain(&munged) == plain(before) {
        return None;
    }
    Some(crate::shown::difference("io.k8s.api.core.v1.PodSpec", before, &munged))
}

/// A pod that is not scheduled yet may be narrowed, not widened.
fn validate_gated(spec: &Cursor<'_>, before: &Value, out: &mut Errors) {
    let selector = spec.field("nodeSelector");
    for (key, value) in before["nodeSelector"].entries() {
        if selector.value.get(key) != Some(value) {
            return selector
                .invalid(out, "only additions to spec.nodeSelector are allowed (no mutations or deletions)");
        }
    }
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let affinity = spec.field("affinity");
    let node = affinity.field("nodeAffinity");
    let (new, old) =
        (&node.value[REQUIRED]["nodeSelectorTerms"], &before["affinity"]["nodeAffinity"][REQUIRED]);
    let old_terms = &old["nodeSelectorTerms"];
    if old_terms.is_zero() || new == old_terms {
        return;
    }
    let required = node.field(REQUIRED);
    let terms = required.field("nodeSelectorTerms");
    if new.items().len() != old_terms.items().len() {
        return terms.invalid(out, "no additions/deletions to non-empty NodeSelectorTerms list are allowed");
    }
    for (term, before) in terms.items().zip(old_terms.items()) {
        let grown = ["matchExpressions", "matchFields"].iter().all(|list| {
            before[*list].items().iter().all(|requirement| term.value[*list].items().contains(requirement))
        });
        if !grown {
            term.invalid(out, "only additions are allowed (no mutations or deletions)");
        }
    }
}

fn validate_ephemeral(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    validate_pod(new, out);
    if annotations::is_mirror(old) {
        out.clear();
        out.push(FieldError::forbidden(
            &crate::Path::ROOT,
            "static pods do not support ephemeral containers",
        ));
        return;
    }
    let spec = new.field("spec");
    let containers = spec.field("ephemeralContainers");
    for before in old["spec"]["ephemeralContainers"].items() {
        let name = crate::quote(before["name"].as_str().unwrap_or(""));
        match containers.value.items().iter().find(|c| c["name"] == before["name"]) {
            None => containers
                .forbidden(out, format!("existing ephemeral containers {name} may not be removed\n")),
            Some(after) if after != before => containers
                .forbidden(out, format!("existing ephemeral containers {name} may not be changed\n")),
            Some(_) => {}
        }
    }
}

fn validate_resize(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    validate_pod(new, out);
    let refuse = |out: &mut Errors, text: &str| {
        out.clear();
        out.push(FieldError::forbidden(&crate::Path::ROOT, text));
    };
    if annotations::is_mirror(old) {
        return refuse(out, "static pods cannot be resized");
    }
    if old["spec"]["os"]["name"].as_str() == Some("windows") {
        return refuse(out, "windows pods cannot be resized");
    }
    let spec = new.field("spec");
    let class = old["status"]["qosClass"].as_str().unwrap_or_else(|| qos_class(old));
    if class != qos_class(new.value) {
        let shown = new.value["status"]["qosClass"].as_str().unwrap_or("");
        spec.invalid_as(out, shown, "Pod QOS Class may not change as a result of resizing");
    }
    for kind in ["initContainers", "containers"] {
        let containers = spec.field(kind);
        for (container, before) in containers.items().zip(old["spec"][kind].items()) {
            let sidecar = before["restartPolicy"].as_str() == Some("Always");
            if kind == "initContainers" && !sidecar {
                if container.value["resources"] != before["resources"] {
                    spec.forbidden(out, "resources for non-sidecar init containers are immutable");
                }
                continue;
            }
            validate_container_resize(&container, before, out);
            if other_resources(&container.value["resources"]) != other_resources(&before["resources"]) {
                let what = if kind == "containers" { "" } else { " for sidecar containers" };
                spec.forbidden(out, format!("only cpu and memory resources{what} are mutable"));
            }
        }
    }
}

fn other_resources(resources: &Value) -> Vec<(String, Value)> {
    ["limits", "requests"]
        .iter()
        .flat_map(|list| resources[*list].entries().iter().map(move |(name, value)| (list, name, value)))
        .filter(|(_, name, _)| !matches!(name.as_str(), "cpu" | "memory"))
        .map(|(list, name, value)| (format!("{list}/{name}"), value.clone()))
        .collect()
}

fn validate_container_resize(container: &Cursor<'_>, before: &Value, out: &mut Errors) {
    let resources = container.field("resources");
    for (list, what) in [("requests", "requests"), ("limits", "limits")] {
        let removed = before["resources"][list]
            .entries()
            .iter()
            .any(|(name, _)| resources.value[list].get(name).is_none());
        if removed {
            resources.field(list).forbidden(out, format!("resource {what} cannot be removed"));
        }
    }
}

fn validate_status(new: &Cursor<'_>, old: &Value, out: &mut Errors) {
    let metadata = new.field("metadata");
    annotations::validate_update(&metadata.field("annotations"), &old["metadata"]["annotations"], out);
    let status = new.field("status");
    const SYSTEM: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];
    let conditions = Cursor::new(&status.value["conditions"], metadata.path.child("conditions"));
    for condition in conditions.items() {
        if !SYSTEM.contains(&condition.text_of("type")) {
            condition.field("type").at(condition.path.child("Type")).check(out, qualified_name);
        }
    }
    let nominated = status.field("nominatedNodeName");
    if !nominated.text().is_empty() && nominated.value != &old["status"]["nominatedNodeName"] {
        nominated.check(out, dns1123_subdomain);
    }
    status.field("qosClass").immutable(out, &old["status"]["qosClass"]);
    let policy = old["spec"]["restartPolicy"].as_str().unwrap_or("");
    for (list, policy) in [
        ("containerStatuses", policy),
        ("initContainerStatuses", policy),
        ("ephemeralContainerStatuses", "Never"),
    ] {
        validate_transitions(&status.field(list), old, list, policy, out);
    }
    validate_ips(&status, out);
}

/// A container that has ended for good does not come back.
fn validate_transitions(new: &Cursor<'_>, old: &Value, list: &str, policy: &str, out: &mut Errors) {
    if policy == "Always" {
        return;
    }
    for (i, before) in old["status"][list].items().iter().enumerate() {
        let ended = &before["state"]["terminated"];
        let failed = ended["exitCode"].as_int().unwrap_or(0) != 0;
        let restartable = list == "initContainerStatuses"
            && old["spec"]["initContainers"]
                .items()
                .iter()
                .any(|c| c["name"] == before["name"] && c["restartPolicy"].as_str() == Some("Always"));
        if ended.is_null() || (failed && policy == "OnFailure") || restartable {
            continue;
        }
        let revived = new
            .value
            .items()
            .iter()
            .any(|after| after["name"] == before["name"] && after["state"]["terminated"].is_null());
        if revived {
            let path = new.path.index(i);
            out.push(FieldError::forbidden(
                &path.child("state"),
                "may not be transitioned to non-terminated state",
            ));
        }
    }
}

fn validate_ips(status: &Cursor<'_>, out: &mut Errors) {
    for list in ["podIPs", "hostIPs"] {
        let addresses = status.field(list);
        let texts: Vec<&str> = addresses.value.items().iter().filter_map(|a| a["ip"].as_str()).collect();
        if list == "hostIPs" && !texts.is_empty() && texts[0] != status.text_of("hostIP") {
            let first = addresses.index(0);
            first.field("ip").invalid(out, "must be equal to `hostIP`");
        }
        for (i, address) in addresses.items().enumerate() {
            let text = address.text_of("ip");
            ip(text).into_iter().for_each(|m| address.invalid_as(out, text, m));
            if texts[..i.min(texts.len())].contains(&text) {
                address.duplicate(out);
            }
        }
        if texts.len() > 1 && (texts.len() > 2 || !is_dual_stack(&texts)) {
            addresses.invalid(out, "may specify no more than one IP for each IP family");
        }
    }
}
