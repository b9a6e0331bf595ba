//! Horizontal pod autoscalers, in the form of `autoscaling/v2`.

use schema::{Value, value};

use super::{KindRules, Write};
use crate::Cursor;
use crate::field::Errors;
use crate::meta::NOT_NEGATIVE;
use crate::names::path_segment;
use crate::quantities::quantity;

/// Longest time that is looked back on, in seconds (`MaxStabilizationWindowSeconds`).
const MAX_WINDOW_S: i64 = 3600;
/// Longest period of a scaling policy, in seconds (`MaxPeriodSeconds`).
const MAX_PERIOD_S: i64 = 1800;
/// Share of the requested CPU that is aimed at when nothing else is said, in per cent.
const DEFAULT_CPU_PERCENT: i64 = 80;
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("External", "external"),
    ("ContainerResource", "containerResource"),
];

pub(super) const RULES: KindRules = KindRules {
    defaults,
    validate: |scaler, _, out| validate(&scaler.field("spec"), out),
    validate_update: |new, _: &Value, write: &Write<'_>, out| match write.subresource {
        "status" => {
            let status = new.field("status");
            status.field("currentReplicas").not_negative(out);
            status.field("desiredReplicas").not_negative(out);
        }
        _ => validate(&new.field("spec"), out),
    },
    ..KindRules::NONE
};

fn defaults(scaler: &mut Value) {
    // The old version says its one metric in another field.
    let old = scaler["apiVersion"].as_str() == Some("autoscaling/v1");
    let Some(spec) = scaler.get_mut("spec").filter(|_| !old) else { return };
    if spec["minReplicas"].is_null() {
        spec.insert("minReplicas", 1);
    }
    if spec["metrics"].is_zero() {
        spec.insert(
            "metrics",
            value!([{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": DEFAULT_CPU_PERCENT}}}]),
        );
    }
    let Some(behavior) = spec.get_mut("behavior").filter(|b| b.as_map().is_some()) else { return };
    let percent = value!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = value!({"type": "Pods", "value": 4, "periodSeconds": 15});
    default_rules(behavior, "scaleUp", vec![pods, percent.clone()]);
    default_rules(behavior, "scaleDown", vec![percent]);
    let up = behavior.make_map().entry_map("scaleUp");
    up.entry("stabilizationWindowSeconds", || Value::Int(0));
}

fn default_rules(behavior: &mut Value, name: &str, policies: Vec<Value>) {
    if behavior[name].is_null() {
        behavior.insert(name, Value::map());
    }
    let rules = behavior.make_map().entry_map(name);
    rules.retain(|_, v| !v.is_null());
    rules.entry("selectPolicy", || Value::str("Max"));
    rules.entry("policies", || Value::List(policies));
}

fn validate(spec: &Cursor<'_>, out: &mut Errors) {
    let (least, most) = (spec.field("minReplicas"), spec.field("maxReplicas"));
    if least.is_set() && least.int() < 1 {
        least.invalid(out, "must be greater than or equal to 1");
    }
    match most.int() {
        0 => most.required(out, "must be set and greater than 0"),
        number if number < 0 => most.invalid(out, "must be greater than or equal to 1"),
        _ => {}
    }
    if least.is_set() && most.int() < least.int() {
        most.invalid_as(out, most.int(), "must be greater than or equal to `minReplicas`");
    }
    validate_target_object(&spec.field("scaleTargetRef"), true, out);
    spec.field("metrics").items().for_each(|metric| validate_metric(&metric, out));
    let behavior = spec.field("behavior");
    for name in ["scaleUp", "scaleDown"] {
        if behavior.has(name) {
            validate_rules(&behavior.field(name), out);
        }
    }
}

fn validate_target_object(c: &Cursor<'_>, grouped: bool, out: &mut Errors) {
    c.field("kind").required_name(out, path_segment);
    c.field("name").required_name(out, path_segment);
    let version = c.field("apiVersion");
    let core = matches!((c.text_of("kind"), version.text()), ("ReplicationController", "v1"));
    if version.text().matches('/').count() > 1 {
        version.invalid_as(
            out,
            version.text(),
            format!("unexpected GroupVersion string: {}", version.text()),
        );
    } else if grouped && !core && !version.text().contains('/') {
        version.invalid_as(out, version.text(), "apiVersion must specify API group");
    }
}

fn validate_rules(c: &Cursor<'_>, out: &mut Errors) {
    let window = c.field("stabilizationWindowSeconds");
    if window.int() < 0 {
        window.invalid(out, "must be greater than or equal to zero");
    }
    if window.int() > MAX_WINDOW_S {
        window.invalid(out, format!("must be less than or equal to {MAX_WINDOW_S}"));
    }
    if c.has("selectPolicy") {
        c.field("selectPolicy").among(out, &["Disabled", "Max", "Min"]);
    }
    let policies = c.field("policies");
    if policies.is_empty() {
        policies.required(out, "must specify at least one Policy");
    }
    for policy in policies.items() {
        policy.field("type").among(out, &["Percent", "Pods"]);
        policy.field("value").positive(out);
        let period = policy.field("periodSeconds");
        period.positive(out);
        if period.int() > MAX_PERIOD_S {
            period.invalid(out, format!("must be less than or equal to {MAX_PERIOD_S}"));
        }
    }
    let tolerance = c.field("tolerance");
    if quantity(tolerance.value).is_some_and(|q| q.sign() < 0) {
        tolerance.invalid(out, NOT_NEGATIVE);
    }
}

fn validate_metric(c: &Cursor<'_>, out: &mut Errors) {
    let kind = c.field("type");
    if kind.text().is_empty() {
        kind.required(out, "must specify a metric source type");
    }
    let mut kinds = SOURCES.map(|(kind, _)| kind);
    kinds.sort_unstable();
    kind.among(out, &kinds);
    let present: Vec<&str> = SOURCES.iter().map(|(_, field)| *field).filter(|f| c.has(f)).collect();
    if let Some(first) = present.first() {
        validate_source(first, &c.field(first), out);
    }
    let Some((_, expected)) = SOURCES.iter().find(|(name, _)| *name == kind.text()) else {
        return kind.among(out, &kinds);
    };
    if !present.contains(expected) {
        c.field(expected).required(out, "must populate information for the given metric source");
    }
    for other in present.iter().filter(|field| *field != expected) {
        c.field(other).forbidden(out, "must populate the given metric source only");
    }
}

fn validate_source(kind: &str, c: &Cursor<'_>, out: &mut Errors) {
    let target = c.field("target");
    let (amount, average) = (target.field("value"), target.field("averageValue"));
    match kind {
        "resource" | "containerResource" => {
            if c.text_of("name").is_empty() {
                c.field("name").required(out, "must specify a resource name");
            }
            if kind == "containerResource" && c.text_of("container").is_empty() {
                c.field("container").required(out, "must specify a container");
            }
            validate_target(&target, out);
            let utilization = target.field("averageUtilization");
            match (utilization.is_set(), average.is_set()) {
                (false, false) => {
                    utilization.required(out, "must set either a target raw value or a target utilization");
                }
                (true, true) => {
                    average.forbidden(out, "may not set both a target raw value and a target utilization");
                }
                _ => {}
            }
        }
        "pods" => {
            validate_identifier(&c.field("metric"), out);
            validate_target(&target, out);
            if quantity(average.value).is_none_or(|q| q.sign() <= 0) {
                average.required(out, "must specify a positive target averageValue");
            }
        }
        "object" => {
            validate_target_object(&c.field("describedObject"), false, out);
            validate_identifier(&c.field("metric"), out);
            validate_target(&target, out);
            if !amount.is_set() && !average.is_set() {
                average.required(out, "must set either a target value or averageValue");
            }
        }
        _ => {
            validate_identifier(&c.field("metric"), out);
            validate_target(&target, out);
            match (amount.is_set(), average.is_set()) {
                (false, false) => {
                    average.required(out, "must set either a target value for metric or a per-pod target")
                }
                (true, true) => {
                    amount.forbidden(out, "may not set both a target value for metric and a per-pod target")
                }
                _ => {}
            }
        }
    }
}

fn validate_identifier(c: &Cursor<'_>, out: &mut Errors) {
    let name = c.field("name");
    match name.text().is_empty() {
        true => name.required(out, "must specify a metric name"),
        false => name.check(out, path_segment),
    }
}

fn validate_target(c: &Cursor<'_>, out: &mut Errors) {
    let kind = c.field("type");
    if kind.text().is_empty() {
        kind.required(out, "must specify a metric target type");
    }
    if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        kind.invalid_as(out, kind.text(), "must be either Utilization, Value, or AverageValue");
    }
    for name in ["value", "averageValue"] {
        if quantity(c.field(name).value).is_some_and(|q| q.sign() <= 0) {
            c.field(name).invalid(out, "must be positive");
        }
    }
    let utilization = c.field("averageUtilization");
    if utilization.is_set() && utilization.int() < 1 {
        utilization.invalid(out, "must be greater than 0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behavior_is_filled() {
        let mut scaler = value!({"apiVersion": "autoscaling/v2", "spec": {"behavior": {
            "scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}}});
        defaults(&mut scaler);
        let behavior = &scaler["spec"]["behavior"];
        assert_eq!(behavior["scaleUp"]["policies"].items().len(), 2);
        assert_eq!(behavior["scaleDown"]["policies"].items().len(), 1);
        assert!(behavior["scaleDown"]["stabilizationWindowSeconds"].is_null());
        assert_eq!(scaler["spec"]["metrics"].items().len(), 1);
    }
}
