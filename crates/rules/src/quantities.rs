//! Checks of resource names and quantities (`pkg/apis/core/helper`).

use base::Quantity;
use schema::Value;

use crate::Cursor;
use crate::field::Errors;
use crate::meta::NOT_NEGATIVE;
use crate::names::qualified_name;

const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
const CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const WHOLE: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// The quantity in a value; `None` when it is missing or malformed.
pub fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::Str(text) => Quantity::parse(text).ok(),
        Value::Int(units) => Some(Quantity::from_units(*units, base::quantity::Format::DecimalSi)),
        _ => None,
    }
}

/// `hugepages-2Mi` and the like.
pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Without a domain, or of `kubernetes.io`.
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Of another domain, and fit to be requested.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && qualified_name(&format!("requests.{name}")).is_empty()
}

/// Requests may be below limits.
pub fn overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// A name that a quota may limit without a domain.
pub fn is_quota_name(name: &str) -> bool {
    (STANDARD.contains(&name) && name != "storage")
        || is_huge_page(name.strip_prefix("requests.").unwrap_or(name))
}

fn is_whole(name: &str) -> bool {
    WHOLE.contains(&name) || is_extended(name)
}

/// Checks the name of any resource; errors stand at `c` and show `name`.
pub fn validate_resource_name(name: &str, c: &Cursor<'_>, out: &mut Errors) -> bool {
    let messages = qualified_name(name);
    if !messages.is_empty() {
        messages.into_iter().for_each(|m| c.invalid_as(out, name, m));
        return false;
    }
    if !name.contains('/') && !STANDARD.contains(&name) && !is_huge_page(name) {
        c.invalid_as(out, name, "must be a standard resource type or fully qualified");
        return false;
    }
    true
}

/// Checks the name of a resource of containers.
pub fn validate_container_resource_name(name: &str, c: &Cursor<'_>, out: &mut Errors) {
    validate_resource_name(name, c, out);
    if !name.contains('/') {
        if !CONTAINER.contains(&name) && !is_huge_page(name) {
            c.invalid_as(out, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        c.invalid_as(out, name, "doesn't follow extended resource name standard");
    }
}

/// Checks the amount of the resource `name` at `c`: not negative, and whole where it counts things.
pub fn validate_amount(name: &str, c: &Cursor<'_>, out: &mut Errors) {
    let Some(amount) = quantity(c.value) else { return };
    if amount.sign() < 0 {
        c.invalid_as(out, amount.to_string().as_str(), NOT_NEGATIVE);
    }
    if is_whole(name) && amount.milli_value() % 1000 != 0 {
        c.invalid_as(out, amount.to_string().as_str(), "must be an integer");
    }
}

/// The amount must be above zero.
pub fn validate_positive(c: &Cursor<'_>, out: &mut Errors) {
    if let Some(amount) = quantity(c.value).filter(|q| q.sign() <= 0) {
        c.invalid_as(out, amount.to_string().as_str(), "must be greater than zero");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_resources() {
        assert!(is_native("cpu") && is_native("a.kubernetes.io/x") && !is_native("example.com/gpu"));
        assert!(is_extended("example.com/gpu") && !is_extended("cpu"));
        assert!(overcommit_allowed("cpu") && !overcommit_allowed("hugepages-2Mi"));
        assert!(
            is_quota_name("pods") && is_quota_name("requests.hugepages-1Gi") && !is_quota_name("storage")
        );
    }
}
