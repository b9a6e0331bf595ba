//! Services and the pods behind them, for the two controllers of endpoints.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use client::{Cache, Event, Informer, ObjectKey, WorkQueue};
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use super::pods;
use super::selector::Matcher;

/// Marks endpoints of services without a cluster IP.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// When the change happened that endpoints show, for measuring how long it took.
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The pods that a service selects; None if it has no selector, and someone else makes its endpoints.
pub fn selector_of(service: &Service) -> Option<Matcher> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|s| !s.is_empty()).map(|s| Matcher::labels(Some(s)))
}

/// True if a service has no cluster IP on purpose.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

/// True if the service's unready pods are published too.
pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses) == Some(true)
}

/// The address families of a service, the first one first.
pub fn ip_families(service: &Service) -> Vec<String> {
    let spec = service.spec.clone().unwrap_or_default();
    match spec.ip_families.filter(|f| !f.is_empty()) {
        Some(families) => families,
        None => {
            let v6 = spec.cluster_ip.as_deref().is_some_and(|ip| ip.contains(':'));
            vec![if v6 { "IPv6" } else { "IPv4" }.to_owned()]
        }
    }
}

/// The addresses of a pod that are of a family (`IPv4`, `IPv6`).
pub fn addresses(pod: &Pod, family: &str) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone());
    let mut all: Vec<String> = all.collect();
    if all.is_empty() {
        all.extend(status.pod_ip.clone());
    }
    all.retain(|ip| !ip.is_empty() && ip.contains(':') == (family == "IPv6"));
    all
}

/// True if the pod has an address that a service could use: it has one and has not finished.
pub fn may_be_endpoint(pod: &Pod, terminating_too: bool) -> bool {
    let has_address = pod.status.as_ref().is_some_and(|s| {
        s.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty())
            || s.pod_ips.as_ref().is_some_and(|ips| !ips.is_empty())
    });
    has_address && !pods::is_finished(pod) && (terminating_too || pod.metadata.deletion_timestamp.is_none())
}

/// The number of the port of `pod` that `port` targets.
pub fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match port.target_port.as_ref().unwrap_or(&IntOrString::Int(0)) {
        IntOrString::Int(0) => Some(port.port),
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) if name.is_empty() => Some(port.port),
        IntOrString::String(name) => {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let spec = pod.spec.as_ref()?;
            let sidecars = spec
                .init_containers
                .iter()
                .flatten()
                .filter(|c| c.restart_policy.as_deref() == Some("Always"));
            spec.containers
                .iter()
                .chain(sidecars)
                .flat_map(|c| c.ports.iter().flatten())
                .find(|p| p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
                .map(|p| p.container_port)
        }
    }
}

/// The hostname of the pod within the service's domain, if it has one.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.clone().filter(|h| !h.is_empty())?;
    (spec.subdomain == service.metadata.name && pod.metadata.namespace == service.metadata.namespace)
        .then_some(hostname)
}

/// Adds the keys of the services whose endpoints a change of a pod may change.
pub fn watch_service_pods(pods: &Informer<Pod>, services: Cache<Service>, queue: WorkQueue<ObjectKey>) {
    pods.on_event(move |event| {
        let mut keys = BTreeSet::new();
        match event {
            Event::Added(pod) | Event::Deleted(pod) => keys.extend(services_of(&services, pod)),
            Event::Updated { old, new } => {
                let relabelled = old.metadata.labels != new.metadata.labels;
                if relabelled || endpoint_changed(old, new) {
                    keys.extend(services_of(&services, new));
                }
                if relabelled {
                    keys.extend(services_of(&services, old));
                }
            }
        }
        keys.into_iter().for_each(|key| queue.add(key));
    });
}

fn services_of(services: &Cache<Service>, pod: &Pod) -> Vec<ObjectKey> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let labels = pod.metadata.labels.as_ref();
    services
        .list_namespace(namespace)
        .iter()
        .filter(|service| selector_of(service).is_some_and(|s| s.matches(labels)))
        .map(|service| ObjectKey::of(service.as_ref()))
        .collect()
}

fn endpoint_changed(old: &Pod, new: &Pod) -> bool {
    let facts = |pod: &Pod| {
        let status = pod.status.as_ref();
        let spec = pod.spec.as_ref();
        (
            pod.metadata.uid.clone(),
            pod.metadata.deletion_timestamp.is_some(),
            pods::is_ready(pod),
            pods::is_finished(pod),
            status.and_then(|s| s.pod_ip.clone()),
            status.and_then(|s| s.pod_ips.clone()),
            pods::node_name(pod).map(str::to_owned),
            spec.and_then(|s| s.hostname.clone()),
            spec.and_then(|s| s.subdomain.clone()),
        )
    };
    facts(old) != facts(new)
}

/// Remembers, by service, when its pods last became ready or unready (upstream's TriggerTimeTracker).
#[derive(Debug, Default)]
pub struct TriggerTimes {
    services: Mutex<HashMap<ObjectKey, Triggers>>,
}

#[derive(Debug, Default)]
struct Triggers {
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

impl TriggerTimes {
    /// The earliest change since the last call that made this reconciliation necessary.
    pub fn next(&self, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let mut services = self.services.lock();
        let known = services.entry(ObjectKey::of(service)).or_default();
        let created = service.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let mut changes: Vec<Timestamp> =
            created.into_iter().filter(|at| known.service < Some(*at)).collect();
        let mut current = HashMap::new();
        for pod in pods {
            let Some(at) = pods::condition(pod, "Ready").and_then(|c| c.last_transition_time.as_ref()) else {
                continue;
            };
            if known.pods.get(pods::name(pod)).is_none_or(|before| *before < at.0) {
                changes.push(at.0);
            }
            current.insert(pods::name(pod).to_owned(), at.0);
        }
        *known = Triggers { service: created, pods: current };
        changes.into_iter().min()
    }

    /// Forgets a service that is gone.
    pub fn forget(&self, service: &ObjectKey) {
        self.services.lock().remove(service);
    }
}
