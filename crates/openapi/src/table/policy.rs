//! The cells of access, admission and limits.

use schema::Value;

use super::Seconds;
use super::format::{age, condition, human_duration, int, int_or_string, text};

fn len(object: &Value, dotted: &str) -> Value {
    Value::Int(object.items_at(dotted).len() as i64)
}

pub(super) fn pod_disruption_budget(object: &Value, now: Seconds) -> Vec<Value> {
    let limit = |name: &str| {
        let value = object.at(&format!("spec.{name}"));
        Value::from(value.map_or("N/A".to_owned(), int_or_string))
    };
    vec![
        limit("minAvailable"),
        limit("maxUnavailable"),
        int(object, "status.disruptionsAllowed").into(),
        age(object, now),
    ]
}

pub(super) fn role_binding(object: &Value, now: Seconds) -> Vec<Value> {
    let subjects = |kind: &str| {
        let all = object.items_at("subjects").iter().filter(|s| s.str_at("kind") == Some(kind));
        let names = all.map(|s| match (s.str_at("namespace"), s.str_at("name").unwrap_or_default()) {
            (Some(namespace), name) if kind == "ServiceAccount" => format!("{namespace}/{name}"),
            (_, name) => name.to_owned(),
        });
        Value::from(names.collect::<Vec<_>>().join(", "))
    };
    let role = |name: &str| object.str_at(&format!("roleRef.{name}")).unwrap_or_default();
    vec![
        format!("{}/{}", role("kind"), role("name")).into(),
        age(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

pub(super) fn certificate_signing_request(object: &Value, now: Seconds) -> Vec<Value> {
    let has = |kind: &str| condition(object, kind).is_some();
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied".to_owned(),
        (false, true) => "Approved".to_owned(),
        _ => "Pending".to_owned(),
    };
    if has("Failed") {
        state.push_str(",Failed");
    }
    if object.str_at("status.certificate").is_some_and(|c| !c.is_empty()) {
        state.push_str(",Issued");
    }
    let duration = object.int_at("spec.expirationSeconds").map_or("<none>".to_owned(), human_duration);
    vec![
        age(object, now),
        text(object, "spec.signerName", "<none>"),
        text(object, "spec.username", ""),
        duration.into(),
        state.into(),
    ]
}

pub(super) fn flow_schema(object: &Value, now: Seconds) -> Vec<Value> {
    let dangling = condition(object, "Dangling").and_then(|c| c.str_at("status")).unwrap_or("?");
    vec![
        text(object, "spec.priorityLevelConfiguration.name", "<none>"),
        int(object, "spec.matchingPrecedence").into(),
        text(object, "spec.distinguisherMethod.type", "<none>"),
        age(object, now),
        dangling.into(),
    ]
}

pub(super) fn priority_level(object: &Value, now: Seconds) -> Vec<Value> {
    let number = |dotted: &str| object.at(dotted).cloned().unwrap_or(Value::str("<none>"));
    let shares = match object.str_at("spec.type") {
        Some("Exempt") => number("spec.exempt.nominalConcurrencyShares"),
        _ => number("spec.limited.nominalConcurrencyShares"),
    };
    vec![
        text(object, "spec.type", ""),
        shares,
        number("spec.limited.limitResponse.queuing.queues"),
        number("spec.limited.limitResponse.queuing.handSize"),
        number("spec.limited.limitResponse.queuing.queueLengthLimit"),
        age(object, now),
    ]
}

pub(super) fn webhooks(object: &Value, now: Seconds) -> Vec<Value> {
    vec![len(object, "webhooks"), age(object, now)]
}

fn param_kind(object: &Value) -> Value {
    let kind = object.at("spec.paramKind").map(|kind| {
        let part = |name: &str| kind.str_at(name).unwrap_or_default();
        format!("{}/{}", part("apiVersion"), part("kind"))
    });
    kind.unwrap_or_else(|| "<unset>".to_owned()).into()
}

pub(super) fn validating_policy(object: &Value, now: Seconds) -> Vec<Value> {
    vec![len(object, "spec.validations"), param_kind(object), age(object, now)]
}

pub(super) fn mutating_policy(object: &Value, now: Seconds) -> Vec<Value> {
    vec![len(object, "spec.mutations"), param_kind(object), age(object, now)]
}

pub(super) fn policy_binding(object: &Value, now: Seconds) -> Vec<Value> {
    let reference = object.at("spec.paramRef").map(|reference| {
        let part = |name: &str| reference.str_at(name).filter(|t| !t.is_empty());
        match (part("namespace"), part("name")) {
            (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
            (None, Some(name)) => name.to_owned(),
            (_, None) => "*".to_owned(),
        }
    });
    vec![
        text(object, "spec.policyName", ""),
        reference.unwrap_or_else(|| "<unset>".to_owned()).into(),
        age(object, now),
    ]
}
