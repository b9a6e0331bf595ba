//! The Endpoints object of a service.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::common::pods;
use crate::common::services::{
    HEADLESS_LABEL, TRIGGER_TIME, addresses, hostname, ip_families, is_headless, may_be_endpoint,
    publishes_not_ready, target_port,
};

/// Most addresses in an Endpoints object; what is more is left out and said so.
const MAX_CAPACITY: usize = 1000;
/// Says that addresses were left out.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Who keeps the object.
const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

/// A write of the Endpoints object.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// It is not there.
    Create(Endpoints),
    /// It says something else.
    Update(Endpoints),
}

/// The write that makes the Endpoints object say what the service's pods are.
pub fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    existing: Option<&Endpoints>,
    trigger: Option<Timestamp>,
) -> Option<Action> {
    let mut subsets = subsets(service, pods);
    let truncated = truncate(&mut subsets);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    let mut wanted = existing.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    let was_truncated = annotations.get(OVER_CAPACITY).is_some_and(|v| v == "truncated");
    if existing.is_some_and(|e| {
        e.subsets.as_deref().unwrap_or_default() == subsets
            && e.metadata.labels.as_ref() == Some(&labels)
            && was_truncated == truncated
    }) {
        return None;
    }
    annotations.remove(OVER_CAPACITY);
    annotations.remove(TRIGGER_TIME);
    annotations.extend(truncated.then(|| (OVER_CAPACITY.to_owned(), "truncated".to_owned())));
    annotations.extend(trigger.map(|at| (TRIGGER_TIME.to_owned(), at.to_string())));
    wanted.metadata.annotations = wanted.metadata.annotations.filter(|a| !a.is_empty());
    wanted.metadata.labels = Some(labels);
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    Some(if existing.is_some() { Action::Update(wanted) } else { Action::Create(wanted) })
}

/// Name, number, protocol, application protocol; None for a headless service without ports.
type Port = Option<(String, i32, String, Option<String>)>;
/// By address and uid: the address and whether it is ready.
type Addresses = BTreeMap<(String, String), (EndpointAddress, bool)>;

/// A set of addresses as a key.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct AddressSet(Vec<((String, String), bool)>);

/// Ports that have the same addresses are one subset.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let family = ip_families(service).swap_remove(0);
    let unready_too = publishes_not_ready(service);
    let mut by_port: BTreeMap<Port, Addresses> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| may_be_endpoint(pod, unready_too)) {
        let Some(ip) = addresses(pod, &family).into_iter().next() else { continue };
        let ready = unready_too || pods::is_ready(pod);
        for port in ports_of(service, pod) {
            let address = address(service, pod, ip.clone());
            let of_port = by_port.entry(port).or_default();
            of_port.insert((ip.clone(), pods::uid(pod).to_owned()), (address, ready));
        }
    }
    let mut by_addresses: BTreeMap<AddressSet, (Addresses, Vec<EndpointPort>)> = BTreeMap::new();
    for (port, addresses) in by_port {
        let key = AddressSet(addresses.iter().map(|(k, (_, ready))| (k.clone(), *ready)).collect());
        let subset = by_addresses.entry(key).or_insert_with(|| (addresses, Vec::new()));
        subset.1.extend(port.map(|(name, port, protocol, app_protocol)| EndpointPort {
            name: (!name.is_empty()).then_some(name),
            port,
            protocol: Some(protocol),
            app_protocol,
        }));
    }
    by_addresses.into_values().map(|(addresses, ports)| subset(addresses, ports)).collect()
}

fn subset(addresses: Addresses, ports: Vec<EndpointPort>) -> EndpointSubset {
    let (ready, unready): (Vec<_>, Vec<_>) = addresses.into_values().partition(|(_, ready)| *ready);
    let list = |all: Vec<(EndpointAddress, bool)>| {
        (!all.is_empty()).then(|| all.into_iter().map(|(address, _)| address).collect::<Vec<_>>())
    };
    EndpointSubset {
        addresses: list(ready),
        not_ready_addresses: list(unready),
        ports: (!ports.is_empty()).then_some(ports),
    }
}

fn ports_of(service: &Service, pod: &Pod) -> Vec<Port> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
    if ports.is_empty() {
        return if is_headless(service) { vec![None] } else { Vec::new() };
    }
    ports
        .iter()
        .filter_map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let name = port.name.clone().unwrap_or_default();
            Some(Some((name, target_port(pod, port)?, protocol, port.app_protocol.clone())))
        })
        .collect()
}

fn address(service: &Service, pod: &Pod, ip: String) -> EndpointAddress {
    EndpointAddress {
        ip,
        hostname: hostname(pod, service),
        node_name: pods::node_name(pod).map(str::to_owned),
        target_ref: Some(pods::reference(pod)),
    }
}

/// Leaves out what is above the capacity, the unready first. True if anything was.
fn truncate(subsets: &mut Vec<EndpointSubset>) -> bool {
    let mut room = MAX_CAPACITY;
    let mut truncated = false;
    let mut cut = |list: &mut Option<Vec<EndpointAddress>>| {
        let addresses = list.get_or_insert_default();
        truncated |= addresses.len() > room;
        addresses.truncate(room);
        room -= addresses.len();
        if addresses.is_empty() {
            *list = None;
        }
    };
    subsets.iter_mut().for_each(|s| cut(&mut s.addresses));
    subsets.iter_mut().for_each(|s| cut(&mut s.not_ready_addresses));
    subsets.retain(|s| s.addresses.is_some() || s.not_ready_addresses.is_some());
    truncated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{object, pod};
    use serde_json::json;

    fn service() -> Service {
        object(json!({"metadata": {"name": "web", "namespace": "ns", "labels": {"team": "a"}},
            "spec": {"clusterIP": "10.96.0.5", "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "admin", "port": 81, "targetPort": 8081}]}}))
    }

    #[test]
    fn ready_and_unready_pods_make_one_subset() {
        let backend = |name: &str, ip: &str| pod(name).on("n1").with("/status", "podIP", json!(ip));
        let pods: Vec<Arc<Pod>> = vec![
            Arc::new(backend("a", "10.0.0.1").ready().build()),
            Arc::new(backend("b", "10.0.0.2").running().build()),
            Arc::new(backend("c", "10.0.0.3").ready().leaving().build()),
        ];
        let Some(Action::Create(made)) = plan(&service(), &pods, None, None) else { panic!() };
        let reference =
            |n: &str| json!({"kind": "Pod", "namespace": "ns", "name": n, "uid": format!("uid-{n}")});
        assert_eq!(
            serde_json::to_value(&made.subsets).unwrap(),
            json!([{
                "addresses": [{"ip": "10.0.0.1", "nodeName": "n1", "targetRef": reference("a")}],
                "notReadyAddresses": [{"ip": "10.0.0.2", "nodeName": "n1", "targetRef": reference("b")}],
                "ports": [{"name": "admin", "port": 8081, "protocol": "TCP"}, {"name": "http", "port": 8080, "protocol": "TCP"}]
            }])
        );
        assert_eq!(made.metadata.labels.as_ref().unwrap()[MANAGED_BY_LABEL], MANAGER);
        assert_eq!(plan(&service(), &pods, Some(&made), None), None);
        assert!(matches!(plan(&service(), &pods[1..], Some(&made), None), Some(Action::Update(_))));
    }

    #[test]
    fn too_many_are_cut_and_said_so() {
        let pods: Vec<Arc<Pod>> = (0..1001)
            .map(|i| {
                let ip = format!("10.0.{}.{}", i / 250, i % 250);
                Arc::new(pod(&format!("p{i}")).ready().with("/status", "podIP", json!(ip)).build())
            })
            .collect();
        let Some(Action::Create(made)) = plan(&service(), &pods, None, None) else { panic!() };
        assert_eq!(made.subsets.unwrap()[0].addresses.as_ref().unwrap().len(), MAX_CAPACITY);
        assert_eq!(made.metadata.annotations.unwrap()[OVER_CAPACITY], "truncated");
    }
}
