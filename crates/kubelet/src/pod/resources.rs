//! Requests, limits and quality of service of pods and containers.

use std::collections::BTreeMap;

use base::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::spec;

/// A list of resources as the API has it.
pub type ResourceList = BTreeMap<String, ApiQuantity>;
/// A list of resources to reckon with.
pub type Amounts = BTreeMap<String, Quantity>;

/// The quality of service that a pod gets (`status.qosClass`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QosClass {
    /// Limits for CPU and memory everywhere, equal to the requests.
    Guaranteed,
    /// Some request or limit.
    Burstable,
    /// None at all.
    BestEffort,
}

impl QosClass {
    /// As in `status.qosClass`.
    pub fn as_str(self) -> &'static str {
        match self {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        }
    }
}

/// The amount called `name` in `list`, if it is a quantity.
pub fn amount(list: Option<&ResourceList>, name: &str) -> Option<Quantity> {
    Quantity::parse(&list?.get(name)?.0).ok()
}

/// The container's limit of `name`.
pub fn limit(container: &Container, name: &str) -> Option<Quantity> {
    amount(container.resources.as_ref()?.limits.as_ref(), name)
}

/// The container's request of `name`, else its limit, as defaulting has it.
pub fn request(container: &Container, name: &str) -> Option<Quantity> {
    let resources = container.resources.as_ref()?;
    amount(resources.requests.as_ref(), name).or_else(|| amount(resources.limits.as_ref(), name))
}

fn amounts(list: Option<&ResourceList>) -> Amounts {
    let parsed =
        list.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), Quantity::parse(&v.0).ok()?)));
    parsed.collect()
}

/// `into` plus `more`, by resource.
pub fn add(into: &mut Amounts, more: &Amounts) {
    for (name, quantity) in more {
        let sum = into.get(name).map_or(*quantity, |have| *have + *quantity);
        into.insert(name.clone(), sum);
    }
}

fn raise(into: &mut Amounts, other: &Amounts) {
    for (name, quantity) in other {
        if into.get(name).is_none_or(|have| have < quantity) {
            into.insert(name.clone(), *quantity);
        }
    }
}

/// What the pod needs of the node: containers and sidecars together, or an init container with the sidecars before it
/// if that is more, and the overhead (upstream `resourcehelper.PodRequests`). Pod-level requests replace the sum.
pub fn pod_requests(pod: &Pod) -> Amounts {
    aggregate(pod, |r| {
        let mut all = amounts(r.limits.as_ref());
        all.extend(amounts(r.requests.as_ref()));
        all
    })
}

/// The pod's limits, summed as [`pod_requests`] are. A resource that a container leaves unlimited may still appear.
pub fn pod_limits(pod: &Pod) -> Amounts {
    aggregate(pod, |r| amounts(r.limits.as_ref()))
}

fn aggregate(pod: &Pod, of: impl Fn(&ResourceRequirements) -> Amounts) -> Amounts {
    let own = |container: &Container| container.resources.as_ref().map(&of).unwrap_or_default();
    let spec = spec::spec(pod);
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &own(container));
    }
    let mut sidecars = Amounts::new();
    let mut init = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let mut needed = own(container);
        if spec::is_sidecar(container) {
            add(&mut total, &needed);
            add(&mut sidecars, &needed);
            needed = sidecars.clone();
        } else {
            add(&mut needed, &sidecars);
        }
        raise(&mut init, &needed);
    }
    raise(&mut total, &init);
    if let Some(pod_level) = &spec.resources {
        total.extend(of(pod_level));
    }
    // Overhead counts to limits only where there are any.
    let overhead = amounts(spec.overhead.as_ref());
    for (name, quantity) in overhead {
        if total.contains_key(&name) || !name.is_empty() && total.is_empty() {
            let sum = total.get(&name).map_or(quantity, |have| *have + quantity);
            total.insert(name, sum);
        }
    }
    total
}

/// True if every app and init container limits `name`, or the pod as a whole does.
pub fn is_limited(pod: &Pod, name: &str) -> bool {
    let spec = spec::spec(pod);
    let pod_level = spec.resources.as_ref().and_then(|r| amount(r.limits.as_ref(), name));
    pod_level.is_some_and(|q| !q.is_zero())
        || spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .all(|c| limit(c, name).is_some_and(|q| !q.is_zero()))
}

/// The pod's class (upstream `qos.ComputePodQOS`).
pub fn qos_class(pod: &Pod) -> QosClass {
    let spec = spec::spec(pod);
    let every: Vec<Option<&ResourceRequirements>> = match &spec.resources {
        Some(pod_level) if pod_level.requests.is_some() || pod_level.limits.is_some() => {
            vec![Some(pod_level)]
        }
        _ => spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .map(|c| c.resources.as_ref())
            .collect(),
    };
    let mut guaranteed = true;
    let mut any = false;
    for resources in every {
        for name in ["cpu", "memory"] {
            let part = |list: Option<&ResourceList>| amount(list, name).filter(|q| !q.is_zero());
            let limit = resources.and_then(|r| part(r.limits.as_ref()));
            let request = resources.and_then(|r| part(r.requests.as_ref()).or(limit));
            any |= limit.is_some() || request.is_some();
            let equal = matches!((request, limit), (Some(r), Some(l)) if r.nanos() == l.nanos());
            guaranteed &= equal;
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

/// The out-of-memory score of a container's processes: the smaller its share of the node's memory, the higher
/// (upstream `qos.GetContainerOOMScoreAdjust`). `memory_capacity` in bytes.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    const GUARANTEED: i64 = -997;
    const BEST_EFFORT: i64 = 1000;
    if spec::is_critical(pod) {
        return GUARANTEED;
    }
    match qos_class(pod) {
        QosClass::Guaranteed => GUARANTEED,
        QosClass::BestEffort => BEST_EFFORT,
        QosClass::Burstable => {
            let request = request(container, "memory").map_or(0, |q| q.value());
            let adjust = 1000 - (1000 * request) / memory_capacity.max(1);
            // Above a guaranteed pod, below a best-effort one.
            if adjust < 1000 + GUARANTEED { 1000 + GUARANTEED } else { adjust.min(BEST_EFFORT - 1) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({ "spec": json })).unwrap()
    }

    fn container(requests: &str, limits: &str) -> serde_json::Value {
        let list = |text: &str| -> serde_json::Value {
            text.split_whitespace()
                .filter_map(|pair| pair.split_once('='))
                .map(|(k, v)| (k.to_owned(), serde_json::Value::from(v)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        serde_json::json!({"name": "c", "resources": {"requests": list(requests), "limits": list(limits)}})
    }

    #[test]
    fn classes() {
        for (requests, limits, class) in [
            ("", "", QosClass::BestEffort),
            ("cpu=1", "", QosClass::Burstable),
            ("", "cpu=1 memory=1Gi", QosClass::Guaranteed),
            ("cpu=500m", "cpu=1 memory=1Gi", QosClass::Burstable),
            ("cpu=1000m memory=1024Mi", "cpu=1 memory=1Gi", QosClass::Guaranteed),
            ("cpu=0", "", QosClass::BestEffort),
        ] {
            let pod = pod(serde_json::json!({"containers": [container(requests, limits)]}));
            assert_eq!(qos_class(&pod), class, "{requests} / {limits}");
        }
    }

    #[test]
    fn sidecars_count_beside_the_containers_and_init_containers_alone() {
        let mut sidecar = container("cpu=1", "");
        sidecar["restartPolicy"] = "Always".into();
        let pod = pod(serde_json::json!({
            "initContainers": [sidecar, container("cpu=5 memory=1Gi", "")],
            "containers": [container("cpu=2", ""), container("cpu=100m", "")],
        }));
        let requests = pod_requests(&pod);
        assert_eq!(requests["cpu"].to_string(), "6");
        assert_eq!(requests["memory"].to_string(), "1Gi");
    }

    #[test]
    fn scores_follow_the_share_of_memory() {
        let capacity = 4 << 30;
        let score = |requests: &str, limits: &str| {
            let pod = pod(serde_json::json!({"containers": [container(requests, limits)]}));
            oom_score_adj(&pod, &spec::spec(&pod).containers[0], capacity)
        };
        assert_eq!(score("", ""), 1000);
        assert_eq!(score("memory=1Gi", ""), 750);
        assert_eq!(score("cpu=1", ""), 999);
        assert_eq!(score("memory=4Gi", ""), 3);
        assert_eq!(score("", "cpu=1 memory=1Gi"), -997);
    }
}
