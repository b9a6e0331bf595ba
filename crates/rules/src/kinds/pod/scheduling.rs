//! Where a pod may run: affinities, tolerations, spread, gates.

use crate::field::{Errors, FieldError};
use crate::label_selector::validate_label_selector;
use crate::names::{dns1123_label, dns1123_subdomain, label_key, label_value, qualified_name};
use crate::{Cursor, Path};

pub(in crate::kinds) fn validate_affinity(c: &Cursor<'_>, out: &mut Errors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let node = c.field("nodeAffinity");
    if node.has(REQUIRED) {
        validate_node_selector(&node.field(REQUIRED), out);
    }
    for term in node.field(PREFERRED).items() {
        validate_weight(&term, out);
        validate_term(&term.field("preference"), false, out);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = c.field(kind);
        affinity.field(REQUIRED).items().for_each(|term| validate_pod_term(&term, out));
        for term in affinity.field(PREFERRED).items() {
            validate_weight(&term, out);
            validate_pod_term(&term.field("podAffinityTerm"), out);
        }
    }
}

fn validate_weight(term: &Cursor<'_>, out: &mut Errors) {
    let weight = term.field("weight");
    if !(1..=100).contains(&weight.int()) {
        weight.invalid_as(out, weight.int(), "must be in the range 1-100");
    }
}

/// `ValidateNodeSelector`.
pub(in crate::kinds) fn validate_node_selector(c: &Cursor<'_>, out: &mut Errors) {
    let terms = c.field("nodeSelectorTerms");
    if terms.is_empty() {
        return terms.required(out, "must have at least one node selector term");
    }
    terms.items().for_each(|term| validate_term(&term, true, out));
}

/// One term; values are checked only where the term is binding.
fn validate_term(term: &Cursor<'_>, check_values: bool, out: &mut Errors) {
    for expression in term.field("matchExpressions").items() {
        let values = expression.field("values");
        match expression.text_of("operator") {
            "In" | "NotIn" if values.is_empty() => {
                values.required(out, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.forbidden(out, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Gt" | "Lt" if values.len() != 1 => {
                values.required(out, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => expression.field("operator").invalid_as(out, other, "not a valid selector operator"),
        }
        expression.field("key").check(out, label_key);
        if check_values {
            values.items().for_each(|value| value.check(out, label_value));
        }
    }
    for field in term.field("matchFields").items() {
        let values = field.field("values");
        match field.text_of("operator") {
            "In" | "NotIn" => {
                if values.len() != 1 {
                    values.required(
                        out,
                        "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                    );
                }
            }
            other => field.field("operator").invalid_as(out, other, "not a valid selector operator"),
        }
        match field.text_of("key") {
            "metadata.name" => values.items().for_each(|value| value.check(out, dns1123_subdomain)),
            other => field.field("key").invalid_as(out, other, "not a valid field selector key"),
        }
    }
}

fn validate_pod_term(term: &Cursor<'_>, out: &mut Errors) {
    let selector = term.field("labelSelector");
    validate_label_selector(&selector, out);
    validate_label_selector(&term.field("namespaceSelector"), out);
    let namespaces = term.field("namespaces");
    for namespace in namespaces.items() {
        namespace.at(term.path.child("namespace")).check(out, dns1123_label);
    }
    for name in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = term.field(name);
        match (keys.is_empty(), selector.is_set()) {
            (true, _) => {}
            (false, false) => keys.forbidden(out, "must not be specified when labelSelector is not set"),
            (false, true) => keys.items().for_each(|key| key.check(out, label_key)),
        }
    }
    validate_key_overlap(term, &selector, out);
    let topology = term.field("topologyKey");
    if topology.text().is_empty() {
        topology.required(out, "can not be empty");
    }
    topology.check(out, label_key);
}

fn validate_key_overlap(term: &Cursor<'_>, selector: &Cursor<'_>, out: &mut Errors) {
    let keys = term.field("matchLabelKeys");
    let mut seen: Vec<&str> =
        selector.field("matchLabels").value.entries().iter().map(|(k, _)| k.as_str()).collect();
    for expression in selector.field("matchExpressions").value.items() {
        let key = expression.get("key").and_then(schema::Value::as_str).unwrap_or("");
        let at = keys.value.items().iter().position(|k| k.as_str() == Some(key));
        if let (Some(at), true) = (at, seen.contains(&key)) {
            let path = term.path.index(at);
            out.push(FieldError::invalid(&path, key, "exists in both matchLabelKeys and labelSelector"));
        }
        seen.push(key);
    }
    let mismatch = term.field("mismatchLabelKeys");
    for key in keys.items().filter(|key| mismatch.value.items().contains(key.value)) {
        key.invalid(out, "exists in both matchLabelKeys and mismatchLabelKeys");
    }
}

pub(in crate::kinds) const TAINT_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(in crate::kinds) fn validate_tolerations(c: &Cursor<'_>, out: &mut Errors) {
    for toleration in c.items() {
        let (key, operator) = (toleration.field("key"), toleration.field("operator"));
        let (effect, value) = (toleration.field("effect"), toleration.text_of("value"));
        if !key.text().is_empty() {
            key.check(out, label_key);
        } else if operator.text() != "Exists" {
            operator.invalid_as(
                out,
                operator.text(),
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.has("tolerationSeconds") && effect.text() != "NoExecute" {
            effect.invalid_as(
                out,
                effect.text(),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator.text() {
            "Equal" | "" => {
                let messages = label_value(value);
                if !messages.is_empty() {
                    operator.invalid_as(out, value, messages.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    operator.invalid_as(out, value, "value must be empty when `operator` is 'Exists'");
                }
            }
            _ => operator.not_supported(out, &["Equal", "Exists"]),
        }
        if !effect.text().is_empty() && !TAINT_EFFECTS.contains(&effect.text()) {
            effect.not_supported(out, &TAINT_EFFECTS);
        }
    }
}

pub(super) fn validate_spread(c: &Cursor<'_>, out: &mut Errors) {
    for (i, constraint) in c.items().enumerate() {
        let skew = constraint.field("maxSkew");
        skew.positive(out);
        let (topology, action) = (constraint.text_of("topologyKey"), constraint.text_of("whenUnsatisfiable"));
        if topology.is_empty() {
            constraint.field("topologyKey").required(out, "can not be empty");
        }
        constraint.field("whenUnsatisfiable").among(out, &["DoNotSchedule", "ScheduleAnyway"]);
        let repeated = c.value.items()[i + 1..].iter().any(|other| {
            other["topologyKey"].as_str() == Some(topology)
                && other["whenUnsatisfiable"].as_str().unwrap_or("") == action
        });
        if repeated {
            let path = constraint.path.child("{topologyKey, whenUnsatisfiable}");
            out.push(FieldError::duplicate(&path, format!("{{{topology}, {action}}}").as_str()));
        }
        let domains = constraint.field("minDomains");
        if domains.is_set() {
            domains.positive(out);
            if action != "DoNotSchedule" {
                domains.invalid(
                    out,
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"),
                );
            }
        }
        for name in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if constraint.has(name) {
                constraint.field(name).among(out, &["Honor", "Ignore"]);
            }
        }
        validate_match_label_keys(&constraint, out);
        validate_label_selector(&constraint.field("labelSelector"), out);
    }
}

fn validate_match_label_keys(constraint: &Cursor<'_>, out: &mut Errors) {
    let keys = constraint.field("matchLabelKeys");
    if keys.is_empty() {
        return;
    }
    let selector = constraint.field("labelSelector");
    if !selector.is_set() {
        keys.forbidden(out, "must not be specified when labelSelector is not set");
    }
    for key in keys.items() {
        key.check(out, label_key);
        let named = selector.field("matchLabels").has(key.text())
            || selector.value["matchExpressions"].items().iter().any(|e| e["key"] == *key.value);
        if named {
            key.invalid(out, "exists in both matchLabelKeys and labelSelector");
        }
    }
}

pub(super) fn validate_gates(spec: &Cursor<'_>, out: &mut Errors) {
    for gate in spec.field("readinessGates").items() {
        gate.field("conditionType").check(out, qualified_name);
    }
    let gates = spec.field("schedulingGates");
    let mut seen: Vec<&str> = Vec::new();
    for gate in gates.items() {
        let name = gate.text_of("name");
        qualified_name(name).into_iter().for_each(|m| gate.invalid_as(out, name, m));
        if seen.contains(&name) {
            out.push(FieldError::duplicate(&gate.path, name));
        }
        seen.push(gates.value.items()[seen.len()]["name"].as_str().unwrap_or(""));
    }
}

/// Each taint of a node: names, effects, and no two of one key and effect.
pub(in crate::kinds) fn validate_taints(c: &Cursor<'_>, path: &Path<'_>, out: &mut Errors) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (i, item) in c.value.items().iter().enumerate() {
        let taint = Cursor::new(item, path.index(i));
        taint.field("key").check(out, label_key);
        let value = taint.field("value");
        let messages = label_value(value.text());
        if !messages.is_empty() {
            value.invalid_as(out, value.text(), messages.join(";"));
        }
        taint.field("effect").one_of(out, &TAINT_EFFECTS);
        let text = |name: &str| item.get(name).and_then(schema::Value::as_str).unwrap_or("");
        let identity = (text("key"), text("effect"));
        if seen.contains(&identity) {
            let mut error = FieldError::duplicate(&taint.path, item);
            error.detail = "taints must be unique by key and effect pair".to_owned();
            out.push(error);
            continue;
        }
        seen.push(identity);
    }
}
