//! The status of new pods, and the quality of service that follows from resources.

use schema::{Value, value};

use super::super::Write;
use crate::quantities::quantity;

/// `Guaranteed`, `Burstable` or `BestEffort` (`qos.ComputePodQOS`).
pub fn qos_class(pod: &Value) -> &'static str {
    const COMPUTE: [&str; 2] = ["cpu", "memory"];
    let spec = &pod["spec"];
    let amount =
        |resources: &Value, list: &str, name: &str| quantity(&resources[list][name]).filter(|q| q.sign() > 0);
    let own = &spec["resources"];
    let has_own =
        COMPUTE.iter().any(|n| amount(own, "limits", n).is_some() || amount(own, "requests", n).is_some());
    let parts: Vec<&Value> = match has_own {
        true => vec![own],
        false => ["containers", "initContainers"]
            .iter()
            .flat_map(|kind| spec[*kind].items().iter().map(|c| &c["resources"]))
            .collect(),
    };
    let mut any = false;
    let mut guaranteed = true;
    let (mut requests, mut limits) = ([base::Quantity::ZERO; 2], [base::Quantity::ZERO; 2]);
    for part in parts {
        for (i, name) in COMPUTE.iter().enumerate() {
            if let Some(request) = amount(part, "requests", name) {
                requests[i] = requests[i] + request;
                any = true;
            }
            match amount(part, "limits", name) {
                Some(limit) => {
                    limits[i] = limits[i] + limit;
                    any = true;
                }
                None => guaranteed = false,
            }
        }
    }
    let equal = (0..2).all(|i| requests[i].is_zero() || requests[i].nanos() == limits[i].nanos());
    match (any, guaranteed && equal) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

pub(super) fn prepare_create(pod: &mut Value, _: &Write<'_>) {
    // A grace period below zero means the shortest there is.
    if pod["spec"]["terminationGracePeriodSeconds"].as_int().is_some_and(|seconds| seconds < 0) {
        pod.set("spec.terminationGracePeriodSeconds", 1);
    }
    let mut status = value!({"phase": "Pending"});
    status.insert("qosClass", qos_class(pod));
    if !pod["spec"]["schedulingGates"].is_zero() {
        status.insert(
            "conditions",
            value!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": null
            }]),
        );
    }
    pod.insert("status", status);
    add_match_label_keys(pod);
}

/// Keys of the pod's own labels become requirements of its affinities and spread constraints.
fn add_match_label_keys(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let add = |term: &mut Value, field: &str, operator: &str| {
        let keys: Vec<Value> = term[field].items().to_vec();
        if term["labelSelector"].is_null() {
            return;
        }
        for key in keys {
            let Some(name) = key.as_str() else { continue };
            let Some(label) = labels.get(name).and_then(Value::as_str) else { continue };
            let mut expression = Value::map();
            expression.insert("key", name);
            expression.insert("operator", operator);
            expression.insert("values", [label]);
            let selector = term.make_map().entry_map("labelSelector");
            selector.entry_list("matchExpressions").push(expression);
        }
    };
    let Some(spec) = pod.get_mut("spec") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        for (list, nested) in [
            ("requiredDuringSchedulingIgnoredDuringExecution", false),
            ("preferredDuringSchedulingIgnoredDuringExecution", true),
        ] {
            let Some(Value::List(terms)) = spec.pointer_mut(&["affinity", kind, list]) else { continue };
            for term in terms.iter_mut() {
                let term = if nested { term.make_map().entry("podAffinityTerm", Value::map) } else { term };
                add(term, "matchLabelKeys", "In");
                add(term, "mismatchLabelKeys", "NotIn");
            }
        }
    }
    if let Some(Value::List(constraints)) = spec.get_mut("topologySpreadConstraints") {
        constraints.iter_mut().for_each(|constraint| add(constraint, "matchLabelKeys", "In"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_of_service() {
        let pod = |resources: Value| {
            let mut pod = Value::map();
            let mut container = Value::map();
            container.insert("resources", resources);
            pod.set("spec.containers", vec![container]);
            pod
        };
        for (resources, class) in [
            (value!({}), "BestEffort"),
            (value!({"requests": {"cpu": "1"}}), "Burstable"),
            (
                value!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}),
                "Guaranteed",
            ),
            (
                value!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Mi"}}),
                "Burstable",
            ),
        ] {
            assert_eq!(qos_class(&pod(resources)), class);
        }
    }
}
