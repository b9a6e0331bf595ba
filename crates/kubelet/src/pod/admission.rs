//! Whether the node takes a pod (upstream `lifecycle.predicateAdmitHandler`).

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod};

use super::resources::{self, Amounts};
use super::spec;
use crate::status::Ending;

/// What the node has and what its pods take.
#[derive(Debug, Default)]
pub struct NodeFit<'a> {
    /// What pods can have.
    pub allocatable: Amounts,
    /// The pods that are there and not over.
    pub others: Vec<&'a Pod>,
    /// The Node object, if it has been seen.
    pub node: Option<&'a Node>,
}

impl NodeFit<'_> {
    /// Takes the pod or says why not, in the words of its status.
    pub fn admit(&self, pod: &Pod) -> Result<(), Ending> {
        // A critical pod comes first: static pods must run whatever else does.
        if !spec::is_static(pod) {
            self.resources(pod)?;
        }
        self.ports(pod)?;
        self.selectors(pod)?;
        self.system(pod)
    }

    fn resources(&self, pod: &Pod) -> Result<(), Ending> {
        let mut used = Amounts::new();
        for other in &self.others {
            resources::add(&mut used, &resources::pod_requests(other));
        }
        let limit = self.allocatable.get("pods").map_or(i64::MAX, |q| q.value());
        if self.others.len() as i64 + 1 > limit {
            return Err(rejected("OutOfpods", out_of("pods", 1, self.others.len() as i64, limit)));
        }
        for (name, wanted) in resources::pod_requests(pod) {
            if wanted.is_zero() {
                continue;
            }
            let number = |q: base::Quantity| if name == "cpu" { q.milli_value() } else { q.value() };
            let known = match self.allocatable.get(&name).copied() {
                None if is_extended(&name) => self.of_node_object(&name),
                known => known,
            };
            // What the node knows nothing of is the cluster's, as upstream (`removeMissingExtendedResources`).
            if known.is_none() && is_extended(&name) {
                continue;
            }
            let total = known.map_or(0, number);
            let taken = used.get(&name).copied().map_or(0, number);
            if number(wanted) > total - taken {
                return Err(rejected(&format!("OutOf{name}"), out_of(&name, number(wanted), taken, total)));
            }
        }
        Ok(())
    }

    /// Extended resources may be somebody else's to announce: in the status of the Node object.
    fn of_node_object(&self, name: &str) -> Option<base::Quantity> {
        let allocatable = self.node?.status.as_ref()?.allocatable.as_ref()?;
        allocatable.get(name)?.0.parse().ok()
    }

    fn ports(&self, pod: &Pod) -> Result<(), Ending> {
        let taken: HashSet<_> = self.others.iter().flat_map(|other| host_ports(other)).collect();
        let conflict = host_ports(pod).into_iter().any(|(ip, protocol, port)| {
            taken.iter().any(|(other_ip, other_protocol, other_port)| {
                let same_ip = ip == *other_ip || is_any(&ip) || is_any(other_ip);
                same_ip && protocol == *other_protocol && port == *other_port
            })
        });
        match conflict {
            true => Err(rejected(
                "NodePorts",
                "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
                    .to_owned(),
            )),
            false => Ok(()),
        }
    }

    fn selectors(&self, pod: &Pod) -> Result<(), Ending> {
        let Some(node) = self.node else { return Ok(()) };
        let empty = BTreeMap::new();
        let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let spec = spec::spec(pod);
        let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
        let required = spec
            .affinity
            .as_ref()
            .and_then(|a| a.node_affinity.as_ref())
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let attracted =
            required.is_none_or(|r| r.node_selector_terms.iter().any(|term| matches(term, labels, name)));
        match selected && attracted {
            true => Ok(()),
            false => Err(rejected(
                "NodeAffinity",
                "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector".to_owned(),
            )),
        }
    }

    fn system(&self, pod: &Pod) -> Result<(), Ending> {
        match spec::spec(pod).os.as_ref().map(|os| os.name.as_str()) {
            Some(name) if name != "linux" => Err(rejected(
                "PodOSNotSupported",
                "Failed to admit pod as the OS field doesn't match node OS".to_owned(),
            )),
            _ => Ok(()),
        }
    }
}

/// Upstream's `IsExtendedResourceName`.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/")
}

/// A pod that the node does not take.
pub(super) fn rejected(reason: &str, message: String) -> Ending {
    let message = format!("Pod was rejected: {message}");
    Ending { reason: reason.to_owned(), message, disruption: false }
}

fn out_of(name: &str, wanted: i64, used: i64, capacity: i64) -> String {
    format!(
        "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
    )
}

fn is_any(ip: &str) -> bool {
    matches!(ip, "" | "0.0.0.0" | "::")
}

fn host_ports(pod: &Pod) -> Vec<(String, String, i32)> {
    let ports = spec::all_containers(pod).flat_map(|c| c.container.into_owned().ports.unwrap_or_default());
    let on_host = ports.filter_map(|p| {
        let port = p.host_port.filter(|port| *port > 0)?;
        Some((p.host_ip.unwrap_or_default(), p.protocol.unwrap_or_else(|| "TCP".to_owned()), port))
    });
    on_host.collect()
}

fn matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|e| requirement(e, labels.get(&e.key).map(String::as_str)))
        && fields.iter().all(|f| f.key == "metadata.name" && requirement(f, Some(name)))
}

fn requirement(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|w| w == v));
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    let compare = || Some((number(value)?, number(values.first().map(String::as_str))?));
    match wanted.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare().is_some_and(|(have, want)| have > want),
        "Lt" => compare().is_some_and(|(have, want)| have < want),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec})).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let q = |text: &str| base::Quantity::parse(text).unwrap();
        let other = pod(json!({"containers": [{"name": "o", "resources": {"requests": {"cpu": "1500m"}},
            "ports": [{"containerPort": 80, "hostPort": 8080}]}]}));
        let node: Node = serde_json::from_value(
            json!({"metadata": {"name": "n1", "labels": {"disk": "ssd", "rank": "5"}},
                "status": {"allocatable": {"example.com/known": "3"}}}),
        )
        .unwrap();
        let fit = NodeFit {
            allocatable: [("cpu".to_owned(), q("2")), ("pods".to_owned(), q("2"))].into(),
            others: vec![&other],
            node: Some(&node),
        };
        let of = |spec: serde_json::Value| fit.admit(&pod(spec)).err().map(|e| e.reason).unwrap_or_default();
        let cpu =
            |amount: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]});
        assert_eq!(of(cpu("500m")), "");
        assert_eq!(of(cpu("501m")), "OutOfcpu");
        for (name, expected) in [
            ("example.com/known", "OutOfexample.com/known"),
            ("scheduling.k8s.io/unknown", ""),
            ("beta.kubernetes.io/unknown", "OutOfbeta.kubernetes.io/unknown"),
        ] {
            let asks = json!({"containers": [{"name": "c", "resources": {"requests": {name: "4"}}}]});
            assert_eq!(of(asks), expected);
        }
        let three =
            json!({"containers": [{"name": "c", "resources": {"requests": {"example.com/known": "3"}}}]});
        assert_eq!(of(three), "");
        let port = |port: i32, ip: &str, protocol: &str| {
            json!({"containers": [{"name": "c", "ports": [
                {"containerPort": 1, "hostPort": port, "hostIP": ip, "protocol": protocol}]}]})
        };
        assert_eq!(of(port(8080, "127.0.0.1", "TCP")), "NodePorts");
        assert_eq!(of(port(8080, "", "UDP")), "");
        assert_eq!(of(port(8081, "", "TCP")), "");
        assert_eq!(of(json!({"containers": [], "nodeSelector": {"disk": "ssd"}})), "");
        assert_eq!(of(json!({"containers": [], "nodeSelector": {"disk": "hdd"}})), "NodeAffinity");
        let affinity = |key: &str, operator: &str, value: &str| {
            json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": operator, "values": [value]}]}]}}}})
        };
        assert_eq!(of(affinity("rank", "Gt", "4")), "");
        assert_eq!(of(affinity("rank", "Gt", "5")), "NodeAffinity");
        assert_eq!(of(affinity("disk", "NotIn", "ssd")), "NodeAffinity");
        assert_eq!(of(json!({"containers": [], "os": {"name": "windows"}})), "PodOSNotSupported");
        let full =
            NodeFit { allocatable: [("pods".to_owned(), q("1"))].into(), others: vec![&other], node: None };
        assert_eq!(full.admit(&pod(json!({"containers": []}))).unwrap_err().reason, "OutOfpods");
    }
}
