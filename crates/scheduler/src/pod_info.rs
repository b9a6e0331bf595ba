//! A pod with what scheduling asks of it, computed once.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Quantity;
use base::quantity::Format;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

/// What a container without a CPU or memory request counts for in scores (upstream's GetNonzeroRequests).
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts of resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a CPU.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Everything else, in units.
    pub scalars: BTreeMap<String, i64>,
}

impl Amounts {
    /// From a resource list of the API. A text that is no quantity counts as nothing: the API server took none.
    pub fn from_list(list: Option<&BTreeMap<String, Text>>) -> Self {
        let mut amounts = Self::default();
        for (name, text) in list.into_iter().flatten() {
            let quantity = Quantity::parse(&text.0).unwrap_or(Quantity::from_units(0, Format::DecimalSi));
            match name.as_str() {
                "cpu" => amounts.milli_cpu = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.ephemeral_storage = quantity.value(),
                "pods" => {}
                other => drop(amounts.scalars.insert(other.to_owned(), quantity.value())),
            }
        }
        amounts
    }

    /// Adds `other` `sign` times.
    pub fn add(&mut self, other: &Self, sign: i64) {
        self.milli_cpu += sign * other.milli_cpu;
        self.memory += sign * other.memory;
        self.ephemeral_storage += sign * other.ephemeral_storage;
        for (name, amount) in &other.scalars {
            *self.scalars.entry(name.clone()).or_default() += sign * amount;
        }
    }

    /// The greater of each.
    pub fn max(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.max(other.milli_cpu);
        self.memory = self.memory.max(other.memory);
        self.ephemeral_storage = self.ephemeral_storage.max(other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            let have = self.scalars.entry(name.clone()).or_default();
            *have = (*have).max(*amount);
        }
    }
}

/// A port of the host that a pod wants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port.
    pub port: i32,
    /// The address, `0.0.0.0` for all.
    pub address: String,
}

impl HostPort {
    /// True if both cannot be had on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |text: &str| text == "0.0.0.0" || text == "::";
        let meet = any(&self.address) || any(&other.address) || self.address == other.address;
        self.port == other.port && self.protocol == other.protocol && meet
    }
}

/// A pod and what it asks for.
#[derive(Debug, Clone)]
pub struct PodInfo {
    /// The pod.
    pub pod: Arc<Pod>,
    /// What it requests of a node.
    pub requests: Amounts,
    /// The same, where nothing is requested a default: for scores.
    pub nonzero: Amounts,
    /// Host ports.
    pub ports: Vec<HostPort>,
    /// It has affinity or anti-affinity to other pods.
    pub has_affinity: bool,
    /// It must be away from other pods.
    pub has_required_anti_affinity: bool,
}

impl PodInfo {
    /// Computes what `pod` asks for.
    pub fn new(pod: Arc<Pod>) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let requests = pod_requests(spec, false);
        let nonzero = pod_requests(spec, true);
        let ports = host_ports(spec);
        let affinity = spec.affinity.as_ref();
        let anti = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
        let has_affinity = anti.is_some() || affinity.is_some_and(|a| a.pod_affinity.is_some());
        let has_required_anti_affinity = anti
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())
            .is_some_and(|terms| !terms.is_empty());
        Self { pod, requests, nonzero, ports, has_affinity, has_required_anti_affinity }
    }

    /// The pod's spec.
    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    /// The pod's priority, 0 without one.
    pub fn priority(&self) -> i32 {
        self.spec().and_then(|s| s.priority).unwrap_or(0)
    }

    /// Namespace.
    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Name.
    pub fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// Unique id.
    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The node it is bound to, if it is.
    pub fn node_name(&self) -> Option<&str> {
        self.spec().and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty())
    }
}

fn container_requests(container: &Container, nonzero: bool) -> Amounts {
    let list = container.resources.as_ref().and_then(|r| r.requests.as_ref());
    let mut amounts = Amounts::from_list(list);
    let has = |name: &str| list.is_some_and(|l| l.contains_key(name));
    if nonzero && !has("cpu") {
        amounts.milli_cpu = DEFAULT_MILLI_CPU;
    }
    if nonzero && !has("memory") {
        amounts.memory = DEFAULT_MEMORY;
    }
    amounts
}

/// What a pod needs at its most demanding moment (upstream's resource.PodRequests): all containers and sidecars
/// together, or an init container with the sidecars started before it. KEP-753, KEP-2837.
fn pod_requests(spec: &PodSpec, nonzero: bool) -> Amounts {
    let mut running = Amounts::default();
    for container in &spec.containers {
        running.add(&container_requests(container, nonzero), 1);
    }
    let mut sidecars = Amounts::default();
    let mut peak = Amounts::default();
    for container in spec.init_containers.iter().flatten() {
        let own = container_requests(container, nonzero);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&own, 1);
            sidecars.add(&own, 1);
            peak.max(&sidecars);
        } else {
            let mut with_sidecars = sidecars.clone();
            with_sidecars.add(&own, 1);
            peak.max(&with_sidecars);
        }
    }
    running.max(&peak);
    if let Some(list) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        override_with_pod_level(&mut running, list);
    }
    running.add(&Amounts::from_list(spec.overhead.as_ref()), 1);
    running
}

fn override_with_pod_level(amounts: &mut Amounts, list: &BTreeMap<String, Text>) {
    let level = Amounts::from_list(Some(list));
    for name in list.keys() {
        match name.as_str() {
            "cpu" => amounts.milli_cpu = level.milli_cpu,
            "memory" => amounts.memory = level.memory,
            other if other.starts_with("hugepages-") => {
                amounts.scalars.insert(other.to_owned(), level.scalars.get(other).copied().unwrap_or(0));
            }
            _ => {}
        }
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|p| {
            Some(HostPort {
                protocol: p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port: p.host_port.filter(|port| *port > 0)?,
                address: p
                    .host_ip
                    .clone()
                    .filter(|ip| !ip.is_empty())
                    .unwrap_or_else(|| "0.0.0.0".to_owned()),
            })
        })
        .collect()
}
