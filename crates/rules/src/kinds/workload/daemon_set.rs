//! DaemonSets.

use schema::{Value, value};

use super::{amount_of, validate_amount_or_percent, validate_at_most_all, validate_match, validate_runs_on};
use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::kinds::KindRules;
use crate::kinds::pod::template::{default_template, validate_template};
use crate::kinds::pod::warnings::of_template_at;
use crate::label_selector::{is_empty_selector, validate_label_selector};

/// How often the template has changed, in an annotation since apps/v1.
const GENERATION: &str = "deprecated.daemonset.template.generation";

pub(in crate::kinds) const RULES: KindRules = KindRules {
    warnings: |new, old| of_template_at(new, old, "spec.template"),
    defaults: |set| {
        default_template(set, &["spec", "template"]);
        let strategy = &set["spec"]["updateStrategy"];
        if strategy["type"].as_str() == Some("RollingUpdate") && strategy["rollingUpdate"].is_null() {
            set.set("spec.updateStrategy.rollingUpdate", value!({"maxSurge": 0, "maxUnavailable": 1}));
        }
    },
    prepare_create: |set, _| {
        let generation = template_generation(set).max(1);
        set_template_generation(set, generation);
    },
    prepare_update: |new, old, write| {
        if write.subresource.is_empty() {
            let changed = new["spec"]["template"] != old["spec"]["template"];
            set_template_generation(new, template_generation(old).max(1) + i64::from(changed));
        }
    },
    validate: |set, _, out| validate(set, out),
    validate_update: |new, old, write, out| {
        if write.subresource == "status" {
            return validate_status(new, out);
        }
        validate(new, out);
        let spec = new.field("spec");
        spec.field("selector").immutable(out, &old["spec"]["selector"]);
    },
};

fn template_generation(set: &Value) -> i64 {
    let annotation = set["metadata"]["annotations"].get(GENERATION);
    annotation.and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn set_template_generation(set: &mut Value, generation: i64) {
    set.set_pointer(&["metadata", "annotations", GENERATION], generation.to_string());
}

fn validate(set: &Cursor<'_>, out: &mut Errors) {
    let spec = set.field("spec");
    let (selector, template) = (spec.field("selector"), spec.field("template"));
    validate_label_selector(&selector, out);
    validate_match(selector.value, &template, out);
    if selector.is_set() && is_empty_selector(selector.value) {
        selector.invalid(out, "empty selector is invalid for daemonset");
    }
    validate_template(&template, out);
    validate_runs_on(&template, "DaemonSet", out);
    spec.field("minReadySeconds").not_negative(out);
    validate_strategy(&spec.field("updateStrategy"), out);
    spec.field("revisionHistoryLimit").not_negative(out);
}

fn validate_strategy(c: &Cursor<'_>, out: &mut Errors) {
    let rolling = c.field("rollingUpdate");
    match c.text_of("type") {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_set() => rolling.required(out, ""),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
            for amount in [&unavailable, &surge] {
                validate_amount_or_percent(amount, out);
                validate_at_most_all(amount, out);
            }
            match (amount_of(unavailable.value) != 0, amount_of(surge.value) != 0) {
                (true, true) => surge.invalid(out, "may not be set when maxUnavailable is non-zero"),
                (false, false) => unavailable.required(out, "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        _ => out.push(FieldError::not_supported(&c.path, c.value, &["RollingUpdate", "OnDelete"])),
    }
}

fn validate_status(set: &Cursor<'_>, out: &mut Errors) {
    let status = set.field("status");
    for name in [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ] {
        status.field(name).not_negative(out);
    }
}
