//! What objects count for in quotas.

use std::collections::BTreeMap;

use base::Quantity;
use base::quantity::Format;
use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, Pod, ResourceQuotaSpec, ResourceRequirements,
    ScopedResourceSelectorRequirement, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::jiff::Timestamp;

use crate::common::{pods, time};

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads amounts; what is no quantity counts for nothing.
pub fn amounts(list: Option<&BTreeMap<String, ApiQuantity>>) -> Amounts {
    let parsed = |(name, q): (&String, &ApiQuantity)| Some((name.clone(), Quantity::parse(&q.0).ok()?));
    list.into_iter().flatten().filter_map(parsed).collect()
}

fn add(to: &mut Amounts, name: impl Into<String>, amount: Quantity) {
    let entry = to.entry(name.into()).or_insert(Quantity::ZERO);
    *entry = *entry + amount;
}

fn one() -> Quantity {
    Quantity::from_units(1, Format::DecimalSi)
}

fn count(to: &mut Amounts, name: &str) {
    add(to, name, one());
}

/// True if the pod uses anything: it has not ended, nor outlived its deletion.
fn is_live(pod: &Pod, now: Timestamp) -> bool {
    let outlived = pod.metadata.deletion_timestamp.as_ref().is_some_and(|at| {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        time::plus_seconds(at.0, grace) < now
    });
    !pods::is_finished(pod) && !outlived
}

/// What a pod counts for.
pub fn of_pod(pod: &Pod, now: Timestamp) -> Amounts {
    let mut used = Amounts::new();
    count(&mut used, "count/pods");
    if !is_live(pod, now) {
        return used;
    }
    count(&mut used, "pods");
    for (name, amount) in pod_amounts(pod, |r| r.requests.as_ref()) {
        match name.as_str() {
            "cpu" | "memory" | "ephemeral-storage" => {
                add(&mut used, format!("requests.{name}"), amount);
                add(&mut used, name, amount);
            }
            _ if name.starts_with("hugepages-") => {
                add(&mut used, format!("requests.{name}"), amount);
                add(&mut used, name, amount);
            }
            _ => add(&mut used, format!("requests.{name}"), amount),
        }
    }
    for (name, amount) in pod_amounts(pod, |r| r.limits.as_ref()) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            add(&mut used, format!("limits.{name}"), amount);
        }
    }
    used
}

type Field = fn(&ResourceRequirements) -> Option<&BTreeMap<String, ApiQuantity>>;

/// What a pod may need at once: its containers together, or one of its init containers with the sidecars before it.
fn pod_amounts(pod: &Pod, field: Field) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::new() };
    let of = |container: &Container| amounts(container.resources.as_ref().and_then(field));
    let mut running = Amounts::new();
    for container in &spec.containers {
        of(container).into_iter().for_each(|(name, amount)| add(&mut running, name, amount));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            own.iter().for_each(|(name, amount)| add(&mut running, name.clone(), *amount));
            own.into_iter().for_each(|(name, amount)| add(&mut sidecars, name, amount));
            raise(&mut starting, &sidecars);
        } else {
            let mut with = sidecars.clone();
            own.into_iter().for_each(|(name, amount)| add(&mut with, name, amount));
            raise(&mut starting, &with);
        }
    }
    raise(&mut running, &starting);
    // Amounts of the pod as a whole take the place of its containers'.
    running.extend(amounts(spec.resources.as_ref().and_then(field)));
    let overhead = amounts(spec.overhead.as_ref());
    overhead.into_iter().for_each(|(name, amount)| add(&mut running, name, amount));
    running
}

fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = to.entry(name.clone()).or_insert(*amount);
        if *amount > *entry {
            *entry = *amount;
        }
    }
}

/// What a service counts for.
pub fn of_service(service: &Service) -> Amounts {
    let mut used = Amounts::new();
    count(&mut used, "services");
    count(&mut used, "count/services");
    let Some(spec) = &service.spec else { return used };
    let ports = spec.ports.as_ref().map_or(0, Vec::len) as i64;
    match spec.type_.as_deref() {
        Some("NodePort") => {
            add(&mut used, "services.nodeports", Quantity::from_units(ports, Format::DecimalSi))
        }
        Some("LoadBalancer") => {
            count(&mut used, "services.loadbalancers");
            let with_port =
                spec.ports.iter().flatten().filter(|p| p.node_port.is_some_and(|n| n != 0)).count() as i64;
            let ports = if spec.allocate_load_balancer_node_ports == Some(false) { with_port } else { ports };
            add(&mut used, "services.nodeports", Quantity::from_units(ports, Format::DecimalSi));
        }
        _ => {}
    }
    used
}

/// What a claim counts for.
pub fn of_claim(claim: &PersistentVolumeClaim) -> Amounts {
    let mut used = Amounts::new();
    count(&mut used, "persistentvolumeclaims");
    count(&mut used, "count/persistentvolumeclaims");
    let spec = claim.spec.clone().unwrap_or_default();
    let class = spec.storage_class_name.filter(|c| !c.is_empty());
    let asked = amounts(spec.resources.as_ref().and_then(|r| r.requests.as_ref())).remove("storage");
    let given = amounts(claim.status.as_ref().and_then(|s| s.allocated_resources.as_ref())).remove("storage");
    let storage = match (asked, given) {
        (Some(asked), Some(given)) if given > asked => Some(given),
        (asked, given) => asked.or(given),
    };
    let prefix = class.map(|c| format!("{c}.storageclass.storage.k8s.io"));
    if let Some(prefix) = &prefix {
        count(&mut used, &format!("{prefix}/persistentvolumeclaims"));
    }
    if let Some(storage) = storage {
        add(&mut used, "requests.storage", storage);
        if let Some(prefix) = prefix {
            add(&mut used, format!("{prefix}/requests.storage"), storage);
        }
    }
    used
}

/// True if a quota with these scopes counts the pod.
pub fn in_scopes(spec: &ResourceQuotaSpec, pod: &Pod) -> bool {
    let plain = spec.scopes.iter().flatten().all(|scope| in_scope(scope, pod));
    let selected = spec.scope_selector.iter().flat_map(|s| s.match_expressions.iter().flatten());
    plain && selected.into_iter().all(|requirement| meets(requirement, pod))
}

/// True if a quota with these scopes counts the claim: of scopes, only VolumeAttributesClass is about claims.
pub fn claim_in_scopes(spec: &ResourceQuotaSpec, claim: &PersistentVolumeClaim) -> bool {
    const SCOPE: &str = "VolumeAttributesClass";
    let status = claim.status.as_ref();
    let target = status.and_then(|s| s.modify_volume_status.as_ref());
    let classes: Vec<&str> = [
        claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_deref()),
        status.and_then(|s| s.current_volume_attributes_class_name.as_deref()),
        target.and_then(|t| t.target_volume_attributes_class_name.as_deref()),
    ]
    .into_iter()
    .flatten()
    .filter(|class| !class.is_empty())
    .collect();
    let plain = spec.scopes.iter().flatten().all(|scope| scope == SCOPE && !classes.is_empty());
    let selected = spec.scope_selector.iter().flat_map(|s| s.match_expressions.iter().flatten());
    plain
        && selected.into_iter().all(|requirement| {
            let listed = |class: &str| requirement.values.iter().flatten().any(|v| v == class);
            requirement.scope_name == SCOPE
                && match (requirement.operator.as_str(), classes.as_slice()) {
                    ("In", all) => all.iter().any(|class| listed(class)),
                    ("NotIn", all) => all.is_empty() || all.iter().any(|class| !listed(class)),
                    ("DoesNotExist", all) => all.is_empty(),
                    (_, all) => !all.is_empty(),
                }
        })
}

/// True if the quota counts pods only.
pub fn has_scopes(spec: &ResourceQuotaSpec) -> bool {
    spec.scopes.as_ref().is_some_and(|s| !s.is_empty())
        || spec
            .scope_selector
            .as_ref()
            .is_some_and(|s| s.match_expressions.as_ref().is_some_and(|e| !e.is_empty()))
}

fn in_scope(scope: &str, pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let terminating = spec.and_then(|s| s.active_deadline_seconds).is_some();
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        "PriorityClass" => spec.and_then(|s| s.priority_class_name.as_ref()).is_some_and(|c| !c.is_empty()),
        _ => false,
    }
}

fn meets(requirement: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    if requirement.scope_name != "PriorityClass" {
        return in_scope(&requirement.scope_name, pod) != (requirement.operator == "DoesNotExist");
    }
    let class = pod.spec.as_ref().and_then(|s| s.priority_class_name.as_deref()).filter(|c| !c.is_empty());
    let listed = |class: &str| requirement.values.iter().flatten().any(|v| v == class);
    match requirement.operator.as_str() {
        "In" => class.is_some_and(listed),
        "NotIn" => class.is_none_or(|c| !listed(c)),
        "Exists" => class.is_some(),
        _ => class.is_none(),
    }
}

fn is_best_effort(pod: &Pod) -> bool {
    let classified = pod.status.as_ref().and_then(|s| s.qos_class.as_deref());
    classified.map_or_else(
        || {
            let fields: [Field; 2] = [|r| r.requests.as_ref(), |r| r.limits.as_ref()];
            fields.iter().all(|f| pod_amounts(pod, *f).values().all(Quantity::is_zero))
        },
        |class| class == "BestEffort",
    )
}

fn crosses_namespaces(pod: &Pod) -> bool {
    let Some(affinity) = pod.spec.as_ref().and_then(|s| s.affinity.as_ref()) else { return false };
    let crossing = |term: &k8s_openapi::api::core::v1::PodAffinityTerm| {
        term.namespaces.as_ref().is_some_and(|n| !n.is_empty()) || term.namespace_selector.is_some()
    };
    let with = affinity.pod_affinity.iter().any(|a| {
        a.required_during_scheduling_ignored_during_execution.iter().flatten().any(crossing)
            || a.preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
                .any(|w| crossing(&w.pod_affinity_term))
    });
    let against = affinity.pod_anti_affinity.iter().any(|a| {
        a.required_during_scheduling_ignored_during_execution.iter().flatten().any(crossing)
            || a.preferred_during_scheduling_ignored_during_execution
                .iter()
                .flatten()
                .any(|w| crossing(&w.pod_affinity_term))
    });
    with || against
}

/// Adds `more` to `total`.
pub fn sum(total: &mut Amounts, more: Amounts) {
    more.into_iter().for_each(|(name, amount)| add(total, name, amount));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{at, object, pod};
    use serde_json::{Value, json};

    fn text(used: &Amounts) -> Value {
        json!(used.iter().map(|(k, v)| (k.clone(), v.to_string())).collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn pods_count_what_they_may_need_at_once() {
        let now = at("2026-01-01T00:00:00Z");
        let resources = |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
        let spec = pod("p")
            .running()
            .with("/spec", "containers", json!([{"name": "a", "resources": resources("100m")}, {"name": "b", "resources": resources("200m")}]))
            .with("/spec", "initContainers", json!([{"name": "i", "resources": resources("500m")},
                {"name": "s", "restartPolicy": "Always", "resources": resources("50m")}]));
        let expected = json!({"count/pods": "1", "pods": "1", "cpu": "500m", "requests.cpu": "500m", "limits.cpu": "500m"});
        assert_eq!(text(&of_pod(&spec.build(), now)), expected);
        assert_eq!(text(&of_pod(&pod("p").phase("Failed").build(), now)), json!({"count/pods": "1"}));
    }

    #[test]
    fn services_and_claims() {
        let service: Service = object(
            json!({"metadata": {}, "spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}}),
        );
        let expected = json!({"services": "1", "count/services": "1", "services.nodeports": "2"});
        assert_eq!(text(&of_service(&service)), expected);
        let claim: PersistentVolumeClaim =
            object(json!({"metadata": {}, "spec": {"storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}}}}));
        assert_eq!(
            text(&of_claim(&claim)),
            json!({"persistentvolumeclaims": "1", "count/persistentvolumeclaims": "1",
            "requests.storage": "1Gi", "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
            "fast.storageclass.storage.k8s.io/requests.storage": "1Gi"})
        );
    }

    #[test]
    fn scopes_choose_pods() {
        let best_effort = pod("p").with("/status", "qosClass", json!("BestEffort")).build();
        let deadline = pod("p")
            .with("/spec", "activeDeadlineSeconds", json!(5))
            .with("/spec", "priorityClassName", json!("high"))
            .build();
        let quota = |spec: Value| -> ResourceQuotaSpec { object(spec) };
        let class = |operator: &str, values: Value| {
            quota(json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values}]}}))
        };
        for (spec, pod, expected) in [
            (quota(json!({"scopes": ["BestEffort"]})), &best_effort, true),
            (quota(json!({"scopes": ["NotBestEffort"]})), &best_effort, false),
            (quota(json!({"scopes": ["Terminating"]})), &deadline, true),
            (class("In", json!(["high"])), &deadline, true),
            (class("NotIn", json!(["high"])), &deadline, false),
            (class("Exists", json!([])), &best_effort, false),
        ] {
            assert_eq!(in_scopes(&spec, pod), expected, "{spec:?}");
        }
    }
}
