//! Checks and matching of `metav1.LabelSelector` values inside objects.

use schema::{Map, Value};

use crate::Cursor;
use crate::field::Errors;
use crate::meta::validate_labels;
use crate::names::{label_key, label_value};

/// Checks a selector; a missing one is right.
pub fn validate_label_selector(c: &Cursor<'_>, out: &mut Errors) {
    let labels = c.field("matchLabels");
    out.extend(validate_labels(Some(labels.value), &labels.path));
    for expression in c.field("matchExpressions").items() {
        let values = expression.field("values");
        match expression.text_of("operator") {
            "In" | "NotIn" => {
                if values.is_empty() {
                    values.required(out, "must be specified when `operator` is 'In' or 'NotIn'");
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    values
                        .forbidden(out, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
                }
            }
            operator => {
                expression.field("operator").invalid_as(out, operator, "not a valid selector operator");
            }
        }
        expression.field("key").check(out, label_key);
        values.items().for_each(|value| value.check(out, label_value));
    }
}

/// True when the selector has no condition.
pub fn is_empty_selector(selector: &Value) -> bool {
    selector["matchLabels"].is_zero() && selector["matchExpressions"].is_zero()
}

/// True when `labels` fulfil the selector; a missing selector matches nothing, an empty one everything. `None` when
/// the selector is malformed.
pub fn selector_matches(selector: &Value, labels: Option<&Map>) -> Option<bool> {
    if selector.is_null() {
        return Some(false);
    }
    let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    let mut matches = true;
    for (key, value) in selector["matchLabels"].entries() {
        let value = value.as_str().unwrap_or("");
        if !label_key(key).is_empty() || !label_value(value).is_empty() {
            return None;
        }
        matches &= label(key) == Some(value);
    }
    for expression in selector["matchExpressions"].items() {
        let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or("");
        let values = expression["values"].items();
        let key = text("key");
        let listed = label(key).is_some_and(|l| values.iter().any(|v| v.as_str() == Some(l)));
        let valid = values.iter().filter_map(Value::as_str).all(|v| label_value(v).is_empty());
        if !label_key(key).is_empty() || !valid {
            return None;
        }
        matches &= match (text("operator"), values.is_empty()) {
            ("In", false) => listed,
            ("NotIn", false) => !listed,
            ("Exists", true) => label(key).is_some(),
            ("DoesNotExist", true) => label(key).is_none(),
            _ => return None,
        };
    }
    Some(matches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn matching() {
        let labels = Map::from([("a", "1"), ("b", "2")]);
        for (selector, result) in [
            (value!({"matchLabels": {"a": "1"}}), Some(true)),
            (value!({"matchLabels": {"a": "2"}}), Some(false)),
            (value!({}), Some(true)),
            (value!(null), Some(false)),
            (
                value!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "3"]}]}),
                Some(true),
            ),
            (value!({"matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["1"]}]}), Some(true)),
            (value!({"matchExpressions": [{"key": "c", "operator": "DoesNotExist"}]}), Some(true)),
            (value!({"matchExpressions": [{"key": "c", "operator": "Bogus"}]}), None),
        ] {
            assert_eq!(selector_matches(&selector, Some(&labels)), result);
        }
    }
}
