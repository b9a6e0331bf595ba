//! Jobs.

use schema::Value;

use super::validate_match;
use crate::field::{BadValue, Errors, FieldError};
use crate::kinds::pod::template::{default_template, validate_template};
use crate::kinds::pod::warnings::of_template_at;
use crate::kinds::{KindRules, Write};
use crate::label_selector::{selector_matches, validate_label_selector};
use crate::names::{dns1123_label, domain_prefixed_path, qualified_name};
use crate::{Cursor, Path};

const JOB_NAME: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
const CONTROLLER_UID: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_PARALLELISM_INDEXED: i64 = 100_000;
const MAX_FAILED_INDEXES: i64 = 100_000;
const MAX_PARALLELISM_HIGH_COMPLETIONS: i64 = 10_000;
const MANY_COMPLETIONS: i64 = 100_000;
const MAX_MANAGED_BY_BYTES: usize = 63;
const MAX_INDEXES_BYTES: usize = 64 * 1024;
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

fn validate_success_policy(spec: &Cursor<'_>, c: &Cursor<'_>, out: &mut Errors) {
    let rules = c.field("rules");
    match rules.len() {
        0 => rules.required(out, "at least one rules must be specified when the successPolicy is specified"),
        len if len > MAX_RULES => out.push(FieldError::too_many(&rules.path, len, MAX_RULES)),
        _ => {}
    }
    let completions = spec.int_of("completions");
    for rule in rules.items() {
        let (count, indexes) = (rule.field("succeededCount"), rule.field("succeededIndexes"));
        if !count.is_set() && !indexes.is_set() {
            rule.required(out, "at least one of succeededCount or succeededIndexes must be specified");
        }
        let mut total = 0;
        if indexes.is_set() {
            if indexes.text().len() > MAX_INDEXES_BYTES {
                out.push(FieldError::too_long(&indexes.path, MAX_INDEXES_BYTES));
            }
            match parse_indexes(indexes.text(), completions) {
                Ok(sum) => total = sum,
                Err(error) => indexes.invalid(out, format!("error parsing succeededIndexes: {error}")),
            }
        }
        count.not_negative(out);
        if count.int() > completions {
            count.invalid(
                out,
                format!("must be less than or equal to {completions} (the number of specified completions)"),
            );
        }
        if indexes.is_set() && count.int() > total {
            count.invalid(
                out,
                format!(
                    "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
                ),
            );
        }
    }
}

/// How many indexes `1,3-5` names, all below `completions` and in order.
fn parse_indexes(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut total, mut last) = (0, -1);
    for interval in text.split(',') {
        let limits: Vec<&str> = interval.split('-').collect();
        if limits.len() > 2 {
            return Err(format!(
                "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
                crate::quote(interval)
            ));
        }
        let mut numbers = Vec::with_capacity(2);
        for limit in &limits {
            let number: i64 = limit.parse().map_err(|_| {
                format!("cannot convert string to integer for index: {}", crate::quote(limit))
            })?;
            if number >= completions {
                return Err(format!("too large index: {}", crate::quote(limit)));
            }
            numbers.push(number);
        }
        let (first, end) = (numbers[0], *numbers.last().unwrap_or(&numbers[0]));
        if first <= last {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        if limits.len() == 2 && end <= first {
            return Err(format!("non-increasing order, previous: {first}, current: {end}"));
        }
        total += end - first + 1;
        last = end;
    }
    Ok(total)
}

fn validate_failure_policy(spec: &Cursor<'_>, c: &Cursor<'_>, out: &mut Errors) {
    const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
    let rules = c.field("rules");
    if rules.len() > MAX_RULES {
        out.push(FieldError::too_many(&rules.path, rules.len(), MAX_RULES));
    }
    let pod = &spec.value["template"]["spec"];
    let names: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|kind| pod[*kind].items().iter().filter_map(|c| c["name"].as_str()))
        .collect();
    for rule in rules.items() {
        let action = rule.field("action");
        match action.text() {
            "" => action.required(out, valid_values(&ACTIONS)),
            "FailIndex" if !spec.has("backoffLimitPerIndex") => {
                action.invalid(out, "requires the backoffLimitPerIndex to be set");
            }
            text if ACTIONS.contains(&text) => {}
            _ => action.not_supported(out, &ACTIONS),
        }
        let (codes, conditions) = (rule.field("onExitCodes"), rule.field("onPodConditions"));
        if codes.is_set() {
            validate_exit_codes(&codes, &names, out);
        }
        validate_pod_conditions(&conditions, out);
        match (codes.is_set(), !conditions.is_empty()) {
            (true, true) => rule.invalid_as(
                out,
                BadValue::OMIT,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (false, false) => rule.invalid_as(
                out,
                BadValue::OMIT,
                "specifying one of OnExitCodes and OnPodConditions is required",
            ),
            _ => {}
        }
    }
}

fn valid_values(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|v| crate::quote(v)).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn validate_exit_codes(c: &Cursor<'_>, names: &[&str], out: &mut Errors) {
    const OPERATORS: [&str; 2] = ["In", "NotIn"];
    let operator = c.field("operator");
    match operator.text() {
        "" => operator.required(out, valid_values(&OPERATORS)),
        text if OPERATORS.contains(&text) => {}
        _ => operator.not_supported(out, &OPERATORS),
    }
    let name = c.field("containerName");
    if name.is_set() && !names.contains(&name.text()) {
        name.invalid(out, "must be one of the container or initContainer names in the pod template");
    }
    let values = c.field("values");
    match values.len() {
        0 => values.invalid(out, "at least one value is required"),
        len if len > MAX_EXIT_CODES => out.push(FieldError::too_many(&values.path, len, MAX_EXIT_CODES)),
        _ => {}
    }
    let numbers: Vec<i64> = values.value.items().iter().filter_map(Value::as_int).collect();
    for (i, value) in values.items().enumerate() {
        if operator.text() == "In" && value.int() == 0 {
            value.invalid(out, "must not be 0 for the In operator");
        }
        if numbers[..i.min(numbers.len())].contains(&value.int()) {
            value.duplicate(out);
        }
    }
    if !numbers.is_sorted() {
        values.invalid(out, "must be ordered");
    }
}

fn validate_pod_conditions(c: &Cursor<'_>, out: &mut Errors) {
    const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
    if c.len() > MAX_RULES {
        out.push(FieldError::too_many(&c.path, c.len(), MAX_RULES));
    }
    for condition in c.items() {
        condition.field("type").check(out, qualified_name);
        let status = condition.field("status");
        match status.text() {
            "" => status.required(out, valid_values(&STATUSES)),
            text if STATUSES.contains(&text) => {}
            _ => status.not_supported(out, &STATUSES),
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
    fn index_lists() {
        for (text, result) in [("", Ok(0)), ("0", Ok(1)), ("0,2-4", Ok(4))] {
            assert_eq!(parse_indexes(text, 5), result, "{text}");
        }
        for text in ["5", "1-", "2,1", "3-3", "1-2-3", "x"] {
            assert!(parse_indexes(text, 5).is_err(), "{text}");
        }
    }

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
