//! The endpoints that a service's pods amount to.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};

use super::plan::Desired;
use crate::common::pods;
use crate::common::services::{
    addresses, hostname, ip_families, may_be_endpoint, publishes_not_ready, target_port,
};

/// Where a node is, by its label.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The endpoints of `service` by address family and ports; also the name of a node that a pod is bound to and that is
/// not known, whose pod is left out for now.
pub fn desired(
    service: &Service,
    pods: &[Arc<Pod>],
    node: impl Fn(&str) -> Option<Arc<Node>>,
) -> (Vec<Desired>, Option<String>) {
    let mut missing = None;
    let mut all = Vec::new();
    for family in ip_families(service) {
        let mut by_ports: BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| may_be_endpoint(pod, true)) {
            let addresses = addresses(pod, &family);
            if addresses.is_empty() {
                continue;
            }
            let host = pods::node_name(pod);
            let on = host.and_then(&node);
            if let (Some(host), None, false) = (host, &on, publishes_not_ready(service)) {
                missing = Some(host.to_owned());
                continue;
            }
            let ports = ports_of(service, pod);
            let group = by_ports.entry(ports_key(&ports)).or_insert_with(|| (ports, Vec::new()));
            group.1.push(endpoint(service, pod, on.as_deref(), addresses));
        }
        all.push(Desired { family, groups: by_ports.into_values().collect() });
    }
    (all, missing)
}

/// What two lists of ports have in common if they are the same, in any order.
pub fn ports_key(ports: &[EndpointPort]) -> String {
    let mut keys: Vec<String> = ports
        .iter()
        .map(|p| {
            let part = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{}|{:?}|{}|{}", part(&p.name), p.port, part(&p.protocol), part(&p.app_protocol))
        })
        .collect();
    keys.sort();
    keys.join(",")
}

/// The service's ports as this pod has them. A named port that it lacks is left out.
fn ports_of(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref());
    ports
        .into_iter()
        .flatten()
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(target_port(pod, port)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn endpoint(service: &Service, pod: &Pod, node: Option<&Node>, addresses: Vec<String>) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let ready = publishes_not_ready(service) || (serving && !terminating);
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(pod, service),
        node_name: pods::node_name(pod).map(str::to_owned),
        target_ref: Some(pods::reference(pod)),
        zone: node.and_then(|n| n.metadata.labels.as_ref()?.get(ZONE_LABEL).cloned()),
        deprecated_topology: None,
        hints: None,
    }
}
