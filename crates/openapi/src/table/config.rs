//! The cells of nodes, namespaces, configuration, events and other kinds without workload.

use std::collections::BTreeSet;

use schema::Value;

use super::Seconds;
use super::format::{age, condition, deleting, int, since, text};

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

pub(super) fn node(object: &Value, now: Seconds) -> Vec<Value> {
    let mut status = match condition(object, "Ready").and_then(|c| c.str_at("status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object.bool_at("spec.unschedulable") == Some(true) {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles = BTreeSet::new();
    for (name, value) in object.at("metadata.labels").map(Value::entries).unwrap_or_default() {
        match name.strip_prefix(ROLE_PREFIX) {
            Some(role) if !role.is_empty() => drop(roles.insert(role)),
            None if name == ROLE_LABEL => roles.extend(value.as_str().filter(|v| !v.is_empty())),
            _ => {}
        }
    }
    let roles = roles.into_iter().collect::<Vec<_>>().join(",");
    let address = |kind: &str| {
        let addresses = object.items_at("status.addresses").iter();
        let mut found =
            addresses.filter(|a| a.str_at("type") == Some(kind)).filter_map(|a| a.str_at("address"));
        Value::str(found.next().unwrap_or("<none>"))
    };
    vec![
        status.into(),
        if roles.is_empty() { Value::str("<none>") } else { roles.into() },
        age(object, now),
        text(object, "status.nodeInfo.kubeletVersion", ""),
        address("InternalIP"),
        address("ExternalIP"),
        text(object, "status.nodeInfo.osImage", "<unknown>"),
        text(object, "status.nodeInfo.kernelVersion", "<unknown>"),
        text(object, "status.nodeInfo.containerRuntimeVersion", "<unknown>"),
    ]
}

pub(super) fn namespace(object: &Value, now: Seconds) -> Vec<Value> {
    vec![text(object, "status.phase", if deleting(object) { "Terminating" } else { "" }), age(object, now)]
}

fn count(object: &Value, field: &str) -> i64 {
    object.map_at(field).map_or(0, |m| m.len() as i64)
}

pub(super) fn config_map(object: &Value, now: Seconds) -> Vec<Value> {
    vec![(count(object, "data") + count(object, "binaryData")).into(), age(object, now)]
}

pub(super) fn secret(object: &Value, now: Seconds) -> Vec<Value> {
    vec![text(object, "type", ""), count(object, "data").into(), age(object, now)]
}

pub(super) fn resource_quota(object: &Value, now: Seconds) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, hard) in object.at("status.hard").map(Value::entries).unwrap_or_default() {
        let used = object.map_at("status.used").and_then(|u| u.get_str(name)).unwrap_or("0");
        let line = format!("{name}: {used}/{}", hard.as_str().unwrap_or_default());
        if name.starts_with("limits") { limits.push(line) } else { requests.push(line) }
    }
    vec![requests.join(", ").into(), limits.join(", ").into(), age(object, now)]
}

pub(super) fn component_status(object: &Value, _now: Seconds) -> Vec<Value> {
    let healthy = object.items_at("conditions").iter().find(|c| c.str_at("type") == Some("Healthy"));
    let status = match healthy.and_then(|c| c.str_at("status")) {
        Some("True") => "Healthy",
        Some("False") => "Unhealthy",
        _ => "Unknown",
    };
    let part = |name: &str| Value::str(healthy.and_then(|c| c.str_at(name)).unwrap_or_default());
    vec![status.into(), part("message"), part("error")]
}

pub(super) fn lease(object: &Value, now: Seconds) -> Vec<Value> {
    vec![text(object, "spec.holderIdentity", ""), age(object, now)]
}

pub(super) fn runtime_class(object: &Value, now: Seconds) -> Vec<Value> {
    vec![text(object, "handler", ""), age(object, now)]
}

pub(super) fn priority_class(object: &Value, now: Seconds) -> Vec<Value> {
    vec![
        int(object, "value").into(),
        object.bool_at("globalDefault").unwrap_or(false).into(),
        age(object, now),
        text(object, "preemptionPolicy", ""),
    ]
}

pub(super) fn api_service(object: &Value, now: Seconds) -> Vec<Value> {
    let service = object.at("spec.service").map(|service| {
        let part = |name: &str| service.str_at(name).unwrap_or_default();
        format!("{}/{}", part("namespace"), part("name"))
    });
    let available = condition(object, "Available").map(|c| match c.str_at("status").unwrap_or_default() {
        "True" => "True".to_owned(),
        status => format!("{status} ({})", c.str_at("reason").unwrap_or_default()),
    });
    vec![
        service.unwrap_or_else(|| "Local".to_owned()).into(),
        available.unwrap_or_else(|| "Unknown".to_owned()).into(),
        age(object, now),
    ]
}

/// An event of either group, its name last.
pub(super) fn event(object: &Value, now: Seconds) -> Vec<Value> {
    let either = |core: &str, events: &str| {
        [core, events].iter().find_map(|f| object.str_at(f).filter(|t| !t.is_empty())).unwrap_or_default()
    };
    let at = either("eventTime", "");
    let first_text = either("firstTimestamp", "deprecatedFirstTimestamp");
    let last_text = either("lastTimestamp", "deprecatedLastTimestamp");
    let first = since(if first_text.is_empty() { at } else { first_text }, now);
    let mut last = if last_text.is_empty() { first.clone() } else { since(last_text, now) };
    let mut count = object.int_at("count").or_else(|| object.int_at("deprecatedCount")).unwrap_or(0);
    if let Some(series) = object.get("series").filter(|s| !s.is_null()) {
        last = since(series.str_at("lastObservedTime").unwrap_or_default(), now);
        count = int(series, "count");
    } else if count == 0 {
        count = 1;
    }
    let about = object.get("involvedObject").or_else(|| object.get("regarding")).unwrap_or(&Value::Null);
    let kind = about.str_at("kind").unwrap_or_default().to_lowercase();
    let target = match about.str_at("name").filter(|n| !n.is_empty()) {
        Some(name) => format!("{kind}/{name}"),
        None => kind,
    };
    vec![
        last,
        text(object, "type", ""),
        text(object, "reason", ""),
        target.into(),
        text(about, "fieldPath", ""),
        source(object).into(),
        Value::str(either("message", "note").trim()),
        first,
        count.into(),
        text(object, "metadata.name", ""),
    ]
}

fn source(object: &Value) -> String {
    let either = |names: [&str; 3]| {
        names.iter().find_map(|f| object.str_at(f).filter(|t| !t.is_empty())).unwrap_or_default().to_owned()
    };
    let component = either(["source.component", "deprecatedSource.component", "reportingComponent"]);
    let component = if component.is_empty() { either(["reportingController", "", ""]) } else { component };
    let host = either(["source.host", "deprecatedSource.host", "reportingInstance"]);
    if host.is_empty() { component } else { format!("{component}, {host}") }
}
