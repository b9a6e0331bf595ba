//! Policies of jobs: what makes one a success or a failure before all its pods are through.

use schema::Value;

use crate::Cursor;
use crate::field::{BadValue, Errors, FieldError};
use crate::names::qualified_name;

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const MAX_INDEXES_BYTES: usize = 64 * 1024;

pub(super) fn validate_success_policy(spec: &Cursor<'_>, c: &Cursor<'_>, out: &mut Errors) {
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

pub(super) fn validate_failure_policy(spec: &Cursor<'_>, c: &Cursor<'_>, out: &mut Errors) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_lists() {
        for (text, result) in [("", Ok(0)), ("0", Ok(1)), ("0,2-4", Ok(4))] {
            assert_eq!(parse_indexes(text, 5), result, "{text}");
        }
        for text in ["5", "1-", "2,1", "3-3", "1-2-3", "x"] {
            assert!(parse_indexes(text, 5).is_err(), "{text}");
        }
    }
}
