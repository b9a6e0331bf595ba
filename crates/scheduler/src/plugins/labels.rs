//! Label selectors of the API (upstream's LabelSelectorAsSelector).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels of an object; absent ones are none.
pub type Labels = BTreeMap<String, String>;

/// True if `selector` selects an object with `labels`. None selects nothing, an empty one everything.
pub fn selects(selector: Option<&LabelSelector>, labels: Option<&Labels>) -> bool {
    let Some(selector) = selector else { return false };
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    let mut equal = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    equal.all(|(key, wanted)| value(key) == Some(wanted))
        && expressions.all(|requirement| {
            let have = value(&requirement.key);
            let listed = || have.is_some_and(|have| requirement.values.iter().flatten().any(|v| v == have));
            match requirement.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => have.is_some(),
                "DoesNotExist" => have.is_none(),
                _ => false,
            }
        })
}
