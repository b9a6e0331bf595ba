//! Jobs.

mod policies;

use schema::Value;

use self::policies::{validate_failure_policy, validate_success_policy};
use super::validate_match;
use crate::field::{Errors, FieldError};
use crate::kinds::pod::template::{default_template, validate_template};
use crate::kinds::pod::warnings::of_template_at;
use crate::kinds::{KindRules, Write};
use crate::label_selector::{selector_matches, validate_label_selector};
use crate::names::{dns1123_label, domain_prefixed_path};
use crate::{Cursor, Path};

const JOB_NAME: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
const CONTROLLER_UID: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const MAX_PARALLELISM_INDEXED: i64 = 100_000;
const MAX_FAILED_INDEXES: i64 = 100_000;
const MAX_PARALLELISM_HIGH_COMPLETIONS: i64 = 10_000;
const MANY_COMPLETIONS: i64 = 100_000;
const MAX_MANAGED_BY_BYTES: usize = 63;
const RESTART_POLICIES: &str = "valid values: \"OnFailure\", \"Never\"";

pub(in crate::kinds) const RULES: KindRules = KindRules {
    warnings: |new, old| of_template_at(new, old, "spec.template"),
    defaults,
    prepare_create,
    validate: |job, _, out| {
        validate_generated_selector(job, out);
        let spec = job.field("spec");
        validate_with_selector(&spec, out);
        let completions = spec.int_of("completions");
        if spec.text_of("completionMode") == "Indexed" && completions > 0 {
            let name = job.value.str_at("metadata.name").unwrap_or("");
            let pod = format!("{name}-{}", completions - 1);
            if !dns1123_label(&pod).is_empty() {
                let detail = format!("will not able to create pod with invalid DNS label: {pod}");
                out.push(FieldError::invalid(&Path::new("metadata.name"), name, detail));
            }
        }
    },
    validate_update,
    ..KindRules::NONE
};

fn defaults(job: &mut Value) {
    default_template(job, &["spec", "template"]);
    let Some(spec) = job.get_mut("spec") else { return };
    let fill = |spec: &mut Value, name: &str, value: Value| {
        if spec[name].is_null() {
            spec.insert(name, value);
        }
    };
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        fill(spec, "completions", Value::Int(1));
    }
    fill(spec, "parallelism", Value::Int(1));
    let retries = if spec["backoffLimitPerIndex"].is_null() { 6 } else { i64::from(i32::MAX) };
    fill(spec, "backoffLimit", Value::Int(retries));
    fill(spec, "completionMode", Value::str("NonIndexed"));
    fill(spec, "suspend", Value::Bool(false));
    fill(spec, "manualSelector", Value::Bool(false));
    let replacement = if spec["podFailurePolicy"].is_null() { "TerminatingOrFailed" } else { "Failed" };
    fill(spec, "podReplacementPolicy", Value::str(replacement));
    take_template_labels(job);
}

/// A job without labels carries those of its pods.
pub fn take_template_labels(job: &mut Value) {
    let labels = job["spec"]["template"]["metadata"]["labels"].clone();
    if !labels.is_zero() && job["metadata"]["labels"].is_zero() {
        job.set("metadata.labels", labels);
    }
}

fn prepare_create(job: &mut Value, _: &Write<'_>) {
    if job["spec"]["manualSelector"].as_bool() == Some(true) {
        return;
    }
    let metadata = |job: &Value, name: &str| job["metadata"][name].as_smol().cloned().unwrap_or_default();
    let (name, uid) = (metadata(job, "name"), metadata(job, "uid"));
    for (labels, text) in [(JOB_NAME, &name), (CONTROLLER_UID, &uid)] {
        for label in labels {
            let path = ["spec", "template", "metadata", "labels", label];
            if job.pointer(&path).is_none() {
                job.set_pointer(&path, text);
            }
        }
    }
    let path = ["spec", "selector", "matchLabels", CONTROLLER_UID[0]];
    if job.pointer(&path).is_none() {
        job.set_pointer(&path, uid);
    }
}

fn validate_generated_selector(job: &Cursor<'_>, out: &mut Errors) {
    let spec = job.field("spec");
    let selector = spec.field("selector");
    if spec.bool_of("manualSelector") || !selector.is_set() {
        return;
    }
    let metadata = |name: &str| job.value["metadata"][name].as_str().unwrap_or("");
    let (name, uid) = (metadata("name"), metadata("uid"));
    if uid.is_empty() {
        out.push(FieldError::required(&Path::new("metadata.uid"), ""));
    }
    let template = &job.value["spec"]["template"]["metadata"]["labels"];
    let labels = Path::new("spec.template.metadata.labels");
    let mut expected = schema::Map::new();
    for (keys, text) in [(JOB_NAME, name), (CONTROLLER_UID, uid)] {
        for key in keys {
            expected.insert(key, text);
            let (path, detail) = (labels.key(key), format!("must be '{text}'"));
            match template.get(key).and_then(Value::as_str) {
                None => out.push(FieldError::required(&path, detail)),
                Some(given) if given != text => out.push(FieldError::invalid(&path, template, detail)),
                Some(_) => {}
            }
        }
    }
    if selector_matches(selector.value, Some(&expected)) == Some(false) {
        selector.invalid(out, "`selector` not auto-generated");
    }
}

fn validate_with_selector(spec: &Cursor<'_>, out: &mut Errors) {
    validate_job_spec(spec, out);
    let selector = spec.field("selector");
    match selector.is_set() {
        true => validate_label_selector(&selector, out),
        false => selector.required(out, ""),
    }
    validate_match(selector.value, &spec.field("template"), out);
}

/// What jobs and the templates of cron jobs have in common.
pub(super) fn validate_job_spec(spec: &Cursor<'_>, out: &mut Errors) {
    for name in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        spec.field(name).not_negative(out);
    }
    let managed_by = spec.field("managedBy");
    if managed_by.is_set() {
        managed_by.check(out, domain_prefixed_path);
        if managed_by.text().len() > MAX_MANAGED_BY_BYTES {
            out.push(FieldError::too_long(&managed_by.path, MAX_MANAGED_BY_BYTES));
        }
    }
    validate_completion(spec, out);
    let policy = spec.field("podFailurePolicy");
    if policy.is_set() {
        validate_failure_policy(spec, &policy, out);
    }
    let replacement = spec.field("podReplacementPolicy");
    if replacement.is_set() {
        match policy.is_set() {
            true => replacement.among(out, &["Failed"]),
            false => replacement.among(out, &["Failed", "TerminatingOrFailed"]),
        }
    }
    let template = spec.field("template");
    validate_template(&template, out);
    let pod = template.field("spec");
    let restart = pod.field("restartPolicy");
    match restart.text() {
        "Never" => {}
        "OnFailure" if policy.is_set() => {
            restart.invalid(out, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" => {}
        "" | "Always" => restart.required(out, RESTART_POLICIES),
        _ => restart.not_supported(out, &["OnFailure", "Never"]),
    }
}

fn validate_completion(spec: &Cursor<'_>, out: &mut Errors) {
    const NEEDS_INDEXED: &str = "requires indexed completion mode";
    let mode = spec.field("completionMode");
    if mode.is_set() {
        mode.among(out, &["NonIndexed", "Indexed"]);
    }
    let indexed = mode.text() == "Indexed";
    let (completions, parallelism) = (spec.field("completions"), spec.field("parallelism"));
    let (per_index, failed) = (spec.field("backoffLimitPerIndex"), spec.field("maxFailedIndexes"));
    if indexed {
        if !completions.is_set() {
            completions.required(out, "when completion mode is Indexed");
        }
        if parallelism.int() > MAX_PARALLELISM_INDEXED {
            parallelism.invalid(
                out,
                format!(
                    "must be less than or equal to {MAX_PARALLELISM_INDEXED} when completion mode is Indexed"
                ),
            );
        }
        if completions.is_set() && failed.is_set() && failed.int() > completions.int() {
            failed.invalid(
                out,
                format!("must be less than or equal to {} when completions are specified", completions.int()),
            );
        }
        if failed.int() > MAX_FAILED_INDEXES {
            failed.invalid(out, format!("must be less than or equal to {MAX_FAILED_INDEXES}"));
        }
        if completions.int() > MANY_COMPLETIONS && per_index.is_set() {
            if !failed.is_set() {
                failed
                    .required(out, format!("must be specified when completions is above {MANY_COMPLETIONS}"));
            }
            if parallelism.int() > MAX_PARALLELISM_HIGH_COMPLETIONS {
                parallelism.invalid(
                    out,
                    format!(
                        "must be less than or equal to {MAX_PARALLELISM_HIGH_COMPLETIONS} when completions are above \
                         {MANY_COMPLETIONS} and used with backoff limit per index"
                    ),
                );
            }
        }
    } else if !mode.is_set() || mode.text() == "NonIndexed" {
        for c in [&per_index, &failed] {
            if c.is_set() {
                c.invalid(out, NEEDS_INDEXED);
            }
        }
    }
    if failed.is_set() && !per_index.is_set() {
        per_index.required(out, "when maxFailedIndexes is specified");
    }
    let success = spec.field("successPolicy");
    if success.is_set() {
        match indexed {
            true => validate_success_policy(spec, &success, out),
            false => success.invalid(out, NEEDS_INDEXED),
        }
    }
}

fn validate_update(new: &Cursor<'_>, old: &Value, write: &Write<'_>, out: &mut Errors) {
    if write.subresource == "status" {
        let status = new.field("status");
        for name in ["active", "succeeded", "failed", "ready", "terminating"] {
            status.field(name).not_negative(out);
        }
        return;
    }
    let (spec, before) = (new.field("spec"), &old["spec"]);
    // Upstream's strategy and its validation of changes both look at the whole spec.
    validate_with_selector(&spec, out);
    validate_with_selector(&spec, out);
    let completions = spec.field("completions");
    if spec.text_of("completionMode") != "Indexed" {
        completions.immutable(out, &before["completions"]);
    } else if completions.is_set() && completions.value != &before["completions"] {
        let tandem =
            completions.value == &spec.value["parallelism"] && before["completions"] == before["parallelism"];
        if !tandem {
            completions.invalid(out, "can only be modified in tandem with spec.parallelism");
        }
    }
    spec.field("selector").immutable(out, &before["selector"]);
    let template = spec.field("template");
    let mut munged = template.value.clone();
    if may_move(old) {
        keep_scheduling(&mut munged, &before["template"]);
    }
    if munged != before["template"] {
        template.invalid(out, crate::meta::IMMUTABLE);
    }
    for name in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        spec.field(name).immutable(out, &before[name]);
    }
}

/// A suspended job that has not started may be given other nodes.
fn may_move(old: &Value) -> bool {
    old["spec"]["suspend"].as_bool() == Some(true) && old["status"]["startTime"].is_null()
}

fn keep_scheduling(template: &mut Value, before: &Value) {
    const MOVABLE: [&str; 6] = [
        "spec.affinity.nodeAffinity",
        "spec.nodeSelector",
        "spec.tolerations",
        "spec.schedulingGates",
        "metadata.labels",
        "metadata.annotations",
    ];
    for path in MOVABLE {
        match before.at(path) {
            Some(value) => {
                template.set(path, value);
            }
            None => {
                template.remove_at(path);
            }
        }
    }
    if template["spec"]["affinity"].is_zero() && before["spec"]["affinity"].is_null() {
        template.remove_at("spec.affinity");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn counts_default_together() {
        let mut job = value!({"spec": {"template": {"spec": {}}}});
        defaults(&mut job);
        assert_eq!(job["spec"]["completions"].as_int(), Some(1));
        let mut parallel = value!({"spec": {"parallelism": 2}});
        defaults(&mut parallel);
        assert!(parallel["spec"]["completions"].is_null());
    }
}
