//! What objects count for (upstream's quota evaluators).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use base::Quantity;
use base::quantity::Format;
use schema::Value;

use super::scopes;
use crate::admission::plugins::pod_amounts::{self, Amounts, add};
use crate::admission::{Attributes, Operation};
use crate::registry::meta;

/// Objects that no quota counts.
const IGNORED: [(&str, &str); 6] = [
    ("", "bindings"),
    ("", "componentstatuses"),
    ("", "events"),
    ("events.k8s.io", "events"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authentication.k8s.io", "tokenreviews"),
];
/// Kinds that a quota also names without `count/`.
const PLAIN: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];
/// Resources that every container must say once a quota limits them.
const COMPULSORY: [&str; 6] =
    ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
const PODS: [&str; 11] = [
    "count/pods",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "pods",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SERVICES: [&str; 4] = ["count/services", "services", "services.loadbalancers", "services.nodeports"];
const CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";

/// How a kind is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evaluator {
    /// Pods, by what they ask for.
    Pods,
    /// Services, by their ports.
    Services,
    /// Claims, by their size, per storage class as well.
    Claims,
    /// Other kinds by number: `count/resource.group`, and the older name of some.
    Number(String, Option<String>),
}

fn one() -> Quantity {
    Quantity::from_units(1, Format::DecimalSi)
}

fn number(count: usize) -> Quantity {
    Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

impl Evaluator {
    /// For a write; None if it cannot change what is used.
    pub fn of(attributes: &Attributes<'_>) -> Option<Self> {
        let (group, plural) = (attributes.resource.group.as_str(), attributes.resource.resource.as_str());
        let create = attributes.operation == Operation::Create;
        match (group, plural, attributes.subresource) {
            ("", "pods", "") if create => Some(Self::Pods),
            ("", "pods", "resize") if !create => Some(Self::Pods),
            ("", "services", "") => Some(Self::Services),
            ("", "persistentvolumeclaims", "" | "status") => Some(Self::Claims),
            ("", "pods" | "services", _) => None,
            (group, plural, "") if create && !IGNORED.contains(&(group, plural)) => {
                let name = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
                let plain = (group.is_empty() && PLAIN.contains(&plural)).then(|| plural.to_owned());
                Some(Self::Number(format!("count/{name}"), plain))
            }
            _ => None,
        }
    }

    /// Whether a limit of that name is about such objects.
    pub fn counts(&self, name: &str) -> bool {
        match self {
            Self::Pods => {
                let plain = name.strip_prefix("requests.");
                PODS.contains(&name)
                    || rules::quantities::is_huge_page(name)
                    || plain.is_some_and(|n| rules::quantities::is_huge_page(n) || n.contains('/'))
            }
            Self::Services => SERVICES.contains(&name),
            Self::Claims => {
                name == "count/persistentvolumeclaims"
                    || CLAIMS.contains(&name)
                    || name.split_once(BY_CLASS).is_some_and(|(_, rest)| CLAIMS.contains(&rest))
            }
            Self::Number(count, plain) => name == count || plain.as_deref() == Some(name),
        }
    }

    /// Whether the quota's scopes hold for the object; kinds without scopes are not counted by quotas with some.
    pub fn in_scopes(&self, quota: &Value, object: &Value) -> bool {
        match self {
            Self::Pods => scopes::all_hold(quota, |scope| scopes::of_pod(scope, object)),
            Self::Claims => scopes::all_hold(quota, |scope| scopes::of_claim(scope, object)),
            Self::Services | Self::Number(..) => scopes::all_hold(quota, |_| false),
        }
    }

    /// What containers must say and do not, as `cpu for: a,b; memory for: a`.
    pub fn missing(&self, limited: &[&String], pod: &Value) -> Option<String> {
        if *self != Self::Pods {
            return None;
        }
        let required = limited.iter().map(|name| name.as_str()).filter(|name| COMPULSORY.contains(name));
        let required: Vec<&str> = required.collect();
        let of_pod = said(&pod["spec"]);
        let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for list in ["spec.containers", "spec.initContainers"] {
            for container in pod.items_at(list) {
                let said = said(container);
                for name in &required {
                    if !said.contains_key(*name) && !of_pod.contains_key(*name) {
                        let container = container.str_at("name").unwrap_or_default();
                        missing.entry(name).or_default().insert(container);
                    }
                }
            }
        }
        let one = |(name, containers): (&str, BTreeSet<&str>)| {
            format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(","))
        };
        let words: Vec<String> = missing.into_iter().map(one).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// What an object counts for; `now` in seconds since 1970.
    pub fn usage(&self, object: &Value, now: i64) -> Amounts {
        match self {
            Self::Pods => of_pod(object, now),
            Self::Services => of_service(object),
            Self::Claims => of_claim(object),
            Self::Number(count, plain) => [Some(count), plain.as_ref()]
                .into_iter()
                .flatten()
                .map(|name| (name.clone(), one()))
                .collect(),
        }
    }
}

/// What a container, or a pod's own resources, count for.
fn said(holder: &Value) -> Amounts {
    let of = |field: &str| pod_amounts::read(holder.at("resources").and_then(|r| r.get(field)));
    compute(&of("requests"), &of("limits"))
}

/// Names as quotas have them, for amounts as pods have them.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    for (name, amount) in requests {
        let plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
            || rules::quantities::is_huge_page(name);
        if plain {
            add(&mut used, name, *amount);
        }
        if plain || rules::quantities::is_extended(name) {
            add(&mut used, &format!("requests.{name}"), *amount);
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            add(&mut used, &format!("limits.{name}"), *amount);
        }
    }
    used
}

/// A pod that is over, or has outlived its deletion, counts as an object only.
fn is_live(pod: &Value, now: i64) -> bool {
    let over = matches!(pod.str_at("status.phase"), Some("Failed" | "Succeeded"));
    let grace = pod.int_at("metadata.deletionGracePeriodSeconds").unwrap_or(0);
    let until = meta::parse_time(meta::text(pod, "deletionTimestamp"));
    let outlived = meta::is_deleting(pod) && until.is_some_and(|until| until.saturating_add(grace) < now);
    !over && !outlived
}

fn of_pod(pod: &Value, now: i64) -> Amounts {
    let mut used = Amounts::from([("count/pods".to_owned(), one())]);
    if is_live(pod, now) {
        used.insert("pods".to_owned(), one());
        used.extend(compute(&pod_amounts::of_pod(pod, "requests"), &pod_amounts::of_pod(pod, "limits")));
    }
    used
}

fn of_service(service: &Value) -> Amounts {
    let mut used = Amounts::from([("count/services".to_owned(), one()), ("services".to_owned(), one())]);
    let ports = service.items_at("spec.ports");
    match service.str_at("spec.type") {
        Some("NodePort") => {
            used.insert("services.nodeports".to_owned(), number(ports.len()));
        }
        Some("LoadBalancer") => {
            used.insert("services.loadbalancers".to_owned(), one());
            let asked = ports.iter().filter(|port| port.int_at("nodePort").unwrap_or(0) != 0).count();
            let all = service.bool_at("spec.allocateLoadBalancerNodePorts") != Some(false);
            used.insert("services.nodeports".to_owned(), number(if all { ports.len() } else { asked }));
        }
        _ => {}
    }
    used
}

fn of_claim(claim: &Value) -> Amounts {
    let mut names = vec!["persistentvolumeclaims".to_owned(), "count/persistentvolumeclaims".to_owned()];
    let older = claim.map_at("metadata.annotations");
    let older = older.and_then(|a| a.get_str("volume.beta.kubernetes.io/storage-class"));
    let class = older.or(claim.str_at("spec.storageClassName")).filter(|class| !class.is_empty());
    if let Some(class) = class {
        names.push(format!("{class}{BY_CLASS}persistentvolumeclaims"));
    }
    let mut used: Amounts = names.into_iter().map(|name| (name, one())).collect();
    let storage = |path: &str| pod_amounts::read(claim.at(path)).remove("storage");
    let asked = storage("spec.resources.requests");
    let given =
        storage("status.allocatedResources").filter(|given| asked.is_some_and(|asked| *given > asked));
    let Some(amount) = given.or(asked) else { return used };
    let amount = if amount.nanos() % 1_000_000_000 == 0 {
        amount
    } else {
        Quantity::from_units(amount.value(), amount.format())
    };
    used.insert("requests.storage".to_owned(), amount);
    if let Some(class) = class {
        used.insert(format!("{class}{BY_CLASS}requests.storage"), amount);
    }
    used
}
