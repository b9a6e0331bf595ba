//! Workloads that run pods by a template.

mod cron;
mod daemon_set;
mod deployment;
mod job;
mod schedule;
mod stateful_set;

pub(super) use cron::RULES as CRON_JOBS;
pub(super) use daemon_set::RULES as DAEMON_SETS;
pub(super) use deployment::{CONTROLLERS, DEPLOYMENTS, REPLICA_SETS};
pub(super) use job::RULES as JOBS;
pub use job::take_template_labels;
pub(super) use stateful_set::RULES as STATEFUL_SETS;

use schema::Value;

use super::KindRules;
use crate::Cursor;
use crate::field::{Errors, FieldError};
use crate::label_selector::{is_empty_selector, selector_matches, validate_label_selector};
use crate::meta::NOT_NEGATIVE;
use crate::names::percent;

/// ControllerRevisions: snapshots of templates, which never change.
pub(super) const REVISIONS: KindRules = KindRules {
    validate: |revision, _, out| validate_revision(revision, out),
    validate_update: |new, old, _, out| {
        validate_revision(new, out);
        new.field("data").immutable(out, &old["data"]);
    },
    ..KindRules::NONE
};

fn validate_revision(revision: &Cursor<'_>, out: &mut Errors) {
    let data = revision.field("data");
    match data.value {
        Value::Null => data.required(out, "data is mandatory"),
        Value::Map(_) => {}
        _ => data.invalid_as(out, "<value omitted>", "must be a valid JSON object"),
    }
    revision.field("revision").not_negative(out);
}

/// The selector must be there, well-formed and not empty. `what` is the word of upstream's message.
fn validate_selector(selector: &Cursor<'_>, what: &str, out: &mut Errors) {
    if !selector.is_set() {
        return selector.required(out, "");
    }
    validate_label_selector(selector, out);
    if is_empty_selector(selector.value) {
        selector.invalid(out, format!("empty selector is invalid for {what}"));
    }
}

/// The template's labels must be what the selector looks for. `false` when the selector is malformed.
fn validate_match(selector: &Value, template: &Cursor<'_>, out: &mut Errors) -> bool {
    let labels = &template.value["metadata"]["labels"];
    match selector_matches(selector, labels.as_map()) {
        None => return false,
        Some(true) => {}
        Some(false) => {
            let path = template.path.child("metadata.labels");
            out.push(FieldError::invalid(&path, labels, "`selector` does not match template `labels`"));
        }
    }
    true
}

/// Pods that are kept running restart always and have no deadline.
fn validate_runs_on(template: &Cursor<'_>, what: &str, out: &mut Errors) {
    let spec = template.field("spec");
    spec.field("restartPolicy").among(out, &["Always"]);
    let deadline = spec.field("activeDeadlineSeconds");
    if deadline.is_set() {
        deadline.forbidden(out, format!("activeDeadlineSeconds in {what} is not Supported"));
    }
}

/// A number not below zero, or a percentage.
pub(super) fn validate_amount_or_percent(c: &Cursor<'_>, out: &mut Errors) {
    match c.value {
        Value::Str(text) => c.each(out, percent(text)),
        Value::Int(number) if *number < 0 => c.invalid(out, NOT_NEGATIVE),
        _ => {}
    }
}

/// The number, or the number of percents; 0 when neither.
pub(super) fn amount_of(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::Str(text) => text.strip_suffix('%').and_then(|t| t.parse().ok()).unwrap_or(0),
        _ => 0,
    }
}

/// A percentage above all of it makes no sense.
pub(super) fn validate_at_most_all(c: &Cursor<'_>, out: &mut Errors) {
    if matches!(c.value, Value::Str(text) if percent(text).is_empty()) && amount_of(c.value) > 100 {
        c.invalid(out, "must not be greater than 100%");
    }
}

/// Counts of a status: none below zero, and those after the colon not above the one before.
fn validate_counts(status: &Cursor<'_>, counts: &[&str], within: &[&str], out: &mut Errors) {
    counts.iter().for_each(|name| status.field(name).not_negative(out));
    for name in within {
        let count = status.field(name);
        if count.int() > status.int_of("replicas") {
            count.invalid(out, "cannot be greater than status.replicas");
        }
    }
    let available = status.field("availableReplicas");
    if within.contains(&"readyReplicas") && available.int() > status.int_of("readyReplicas") {
        available.invalid(out, "cannot be greater than readyReplicas");
    }
}
