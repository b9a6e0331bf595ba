//! Scopes: which objects a quota counts at all.

use schema::{Value, value};

use crate::admission::plugins::pod_amounts;

/// Whether `holds` is true of all scopes of a quota, given as requirements of a scope selector.
pub fn all_hold(quota: &Value, holds: impl Fn(&Value) -> bool) -> bool {
    let plain = quota.items_at("spec.scopes").iter().filter_map(Value::as_str);
    let plain = plain.map(|scope| value!({"scopeName": scope, "operator": "Exists"}));
    let selected = quota.items_at("spec.scopeSelector.matchExpressions").iter().cloned();
    plain.chain(selected).all(|scope| holds(&scope))
}

/// Whether a requirement holds for a value of its scope, if there is one.
fn meets(requirement: &Value, value: Option<&str>) -> bool {
    let listed = |text: &str| requirement.items_at("values").iter().any(|one| one.as_str() == Some(text));
    match requirement.str_at("operator") {
        Some("In") => value.is_some_and(listed),
        Some("NotIn") => value.is_none_or(|value| !listed(value)),
        Some("DoesNotExist") => value.is_none(),
        _ => value.is_some(),
    }
}

/// Whether a pod is in a scope.
pub fn of_pod(scope: &Value, pod: &Value) -> bool {
    let terminating = pod.int_at("spec.activeDeadlineSeconds").is_some_and(|seconds| seconds >= 0);
    match scope.str_at("scopeName").unwrap_or_default() {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            meets(scope, pod.str_at("spec.priorityClassName").filter(|class| !class.is_empty()))
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

/// Whether a claim is in a scope (KEP-3751).
pub fn of_claim(scope: &Value, claim: &Value) -> bool {
    if scope.str_at("scopeName") != Some("VolumeAttributesClass") {
        return false;
    }
    let places = [
        "spec.volumeAttributesClassName",
        "status.currentVolumeAttributesClassName",
        "status.modifyVolumeStatus.targetVolumeAttributesClassName",
    ];
    let mut classes = places.iter().filter_map(|place| claim.str_at(place)).filter(|class| !class.is_empty());
    let mut classes = classes.by_ref().peekable();
    match classes.peek() {
        None => meets(scope, None),
        Some(_) => classes.any(|class| meets(scope, Some(class))),
    }
}

fn is_best_effort(pod: &Value) -> bool {
    if let Some(class) = pod.str_at("status.qosClass").filter(|class| !class.is_empty()) {
        return class == "BestEffort";
    }
    ["requests", "limits"].iter().all(|field| {
        let amounts = pod_amounts::of_pod(pod, field);
        ["cpu", "memory"].iter().all(|name| amounts.get(*name).is_none_or(base::Quantity::is_zero))
    })
}

fn crosses_namespaces(pod: &Value) -> bool {
    let crossing =
        |term: &Value| !term.items_at("namespaces").is_empty() || term.get("namespaceSelector").is_some();
    ["podAffinity", "podAntiAffinity"].iter().filter_map(|kind| pod["spec"]["affinity"].get(kind)).any(
        |affinity| {
            affinity.items_at("requiredDuringSchedulingIgnoredDuringExecution").iter().any(crossing)
                || affinity
                    .items_at("preferredDuringSchedulingIgnoredDuringExecution")
                    .iter()
                    .any(|weighted| crossing(&weighted["podAffinityTerm"]))
        },
    )
}
