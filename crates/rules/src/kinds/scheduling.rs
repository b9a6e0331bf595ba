//! Priority classes, runtime classes and disruption budgets.

use schema::Value;

use super::pod::scheduling::validate_tolerations;
use super::rbac::not_supported;
use super::{KindRules, Write};
use crate::Cursor;
use crate::field::Errors;
use crate::label_selector::validate_label_selector;
use crate::meta::validate_labels;
use crate::names::{dns1123_label, percent};
use crate::quantities::{quantity, validate_amount, validate_container_resource_name};

/// The greatest value of a class that a user may make (`HighestUserDefinablePriority`).
const MAX_USER_PRIORITY: i64 = 1_000_000_000;
const SYSTEM_PREFIX: &str = "system-";
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

pub(super) const PRIORITY_CLASSES: KindRules = KindRules {
    validate: |class, _, out| validate_priority(class, out),
    validate_update: |new, old, _: &Write<'_>, out| {
        const FIXED: &str = "may not be changed in an update.";
        if new.int_of("value") != old["value"].as_int().unwrap_or(0) {
            new.field("value").forbidden(out, FIXED);
        }
        new.field("preemptionPolicy").immutable(out, &old["preemptionPolicy"]);
    },
    ..KindRules::NONE
};

fn validate_priority(class: &Cursor<'_>, out: &mut Errors) {
    let metadata = class.field("metadata");
    let (name, value) = (metadata.text_of("name"), class.int_of("value"));
    if name.starts_with(SYSTEM_PREFIX) {
        let own = SYSTEM_CLASSES.iter().find(|(system, _)| *system == name);
        let description = class.text_of("description");
        let global = class.bool_of("globalDefault");
        let fits = own.is_some_and(|(_, wanted)| *wanted == value) && !global && !description.is_empty();
        if !fits {
            let why = match own {
                None => format!(
                    "the priority class name {name} is not allowed: priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only"
                ),
                Some((_, wanted)) => format!(
                    "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: value of {name} PriorityClass must be {wanted}"
                ),
            };
            metadata.field("name").forbidden(out, why);
        }
    } else if value > MAX_USER_PRIORITY {
        class.field("value").forbidden(
            out,
            format!("maximum allowed value of a user defined priority is {MAX_USER_PRIORITY}"),
        );
    }
    if class.has("preemptionPolicy") {
        let policy = class.field("preemptionPolicy");
        let choices = ["PreemptLowerPriority", "Never"];
        if !choices.contains(&policy.text()) {
            not_supported(&policy, &choices, out);
        }
    }
}

pub(super) const RUNTIME_CLASSES: KindRules = KindRules {
    validate: |class, _, out| validate_runtime(class, out),
    validate_update: |new, old, _: &Write<'_>, out| {
        new.field("handler").immutable(out, &old["handler"]);
    },
    ..KindRules::NONE
};

fn validate_runtime(class: &Cursor<'_>, out: &mut Errors) {
    class.field("handler").required_name(out, dns1123_label);
    let overhead = class.field("overhead");
    if overhead.is_set() {
        let fixed = overhead.field("podFixed");
        for (name, value) in fixed.value.entries() {
            // Upstream checks overhead as limits of a container.
            let amount = Cursor::new(value, fixed.path.key(name));
            validate_container_resource_name(name, &amount, out);
            if quantity(value).is_some() {
                validate_amount(name, &amount, out);
            }
        }
    }
    let scheduling = class.field("scheduling");
    if scheduling.is_set() {
        let selector = scheduling.field("nodeSelector");
        out.extend(validate_labels(Some(selector.value), &selector.path));
        let tolerations = scheduling.field("tolerations");
        validate_tolerations(&tolerations, out);
        let items = tolerations.value.items();
        for (i, toleration) in tolerations.items().enumerate() {
            if items[..i].contains(toleration.value) {
                toleration.duplicate(out);
            }
        }
    }
}

pub(super) const DISRUPTION_BUDGETS: KindRules = KindRules {
    prepare_create: |budget, _| {
        budget.insert(
            "status",
            schema::value!({
            "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}),
        );
    },
    validate: |budget, _, out| validate_budget(&budget.field("spec"), out),
    validate_update: |new, _: &Value, write: &Write<'_>, out| match write.subresource {
        "status" => {
            let status = new.field("status");
            for name in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
                status.field(name).not_negative(out);
            }
        }
        _ => validate_budget(&new.field("spec"), out),
    },
    ..KindRules::NONE
};

fn validate_budget(spec: &Cursor<'_>, out: &mut Errors) {
    let (least, most) = (spec.field("minAvailable"), spec.field("maxUnavailable"));
    if least.is_set() && most.is_set() {
        spec.invalid(out, "minAvailable and maxUnavailable cannot be both set");
    }
    for bound in [&least, &most] {
        if bound.is_set() {
            validate_count_or_percent(bound, out);
        }
    }
    validate_label_selector(&spec.field("selector"), out);
    if spec.has("unhealthyPodEvictionPolicy") {
        spec.field("unhealthyPodEvictionPolicy").among(out, &["AlwaysAllow", "IfHealthyBudget"]);
    }
}

/// `ValidatePositiveIntOrPercent` and `IsNotMoreThan100Percent`.
fn validate_count_or_percent(c: &Cursor<'_>, out: &mut Errors) {
    let Some(text) = c.value.as_str() else { return c.not_negative(out) };
    let messages = percent(text);
    if !messages.is_empty() {
        return c.each(out, messages);
    }
    if text.trim_end_matches('%').parse::<u64>().is_ok_and(|p| p > 100) {
        c.invalid(out, "must not be greater than 100%");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn budgets() {
        for (spec, errors) in [
            (value!({"minAvailable": "50%"}), "[]"),
            (
                value!({"minAvailable": "101%"}),
                "minAvailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
            (
                value!({"maxUnavailable": (-1)}),
                "maxUnavailable: Invalid value: -1: must be greater than or equal to 0",
            ),
        ] {
            let mut out = Errors::new();
            validate_budget(&Cursor::root(&spec), &mut out);
            assert_eq!(crate::aggregate(&out), errors);
        }
    }
}
