//! The slices that mirror an Endpoints object.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::CONTROLLER;
use crate::common::owner::controller_reference;
use crate::common::services::TRIGGER_TIME;
use crate::endpointslice::ports_key;
use crate::endpointslice::slices::{Action, Frame, MANAGED_BY_LABEL, SERVICE_LABEL, distribute, reuse};

/// Says that nobody is to mirror an object.
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Marks what the endpoints controller made, for which there are slices already.
const MANAGED_ENDPOINTS_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// True for objects that someone keeps by hand and does not want kept out.
pub fn is_to_be_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let label = |name: &str| meta.labels.as_ref().and_then(|l| l.get(name)).map(String::as_str);
    let leads = meta.annotations.as_ref().is_some_and(|a| a.contains_key(LEADER_ANNOTATION));
    label(SKIP_LABEL) != Some("true") && label(MANAGED_ENDPOINTS_LABEL).is_none() && !leads
}

/// The writes that make `existing` mirror `endpoints`, of each subset at most `limit` addresses.
pub fn plan(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>], limit: usize) -> Vec<Action> {
    let mut wanted: BTreeMap<(&str, String), (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports_of(subset);
        for (address, ready) in addresses_of(subset).take(limit) {
            let family = if address.ip.contains(':') { "IPv6" } else { "IPv4" };
            let group =
                wanted.entry((family, ports_key(&ports))).or_insert_with(|| (ports.clone(), Vec::new()));
            group.1.push(endpoint(address, ready));
        }
    }
    let mut left: Vec<Arc<EndpointSlice>> = existing.to_vec();
    let mut actions = Vec::new();
    for ((family, key), (ports, ends)) in wanted {
        let is_of_group = |slice: &Arc<EndpointSlice>| {
            slice.address_type == family && ports_key(slice.ports.as_deref().unwrap_or_default()) == key
        };
        let (of_group, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(is_of_group);
        left = rest;
        let frame = Frame { meta: frame_meta(endpoints), family, limit };
        actions.extend(distribute(&frame, &ports, ends, &of_group));
    }
    actions.extend(left.into_iter().map(Action::Delete));
    reuse(actions)
}

fn addresses_of(subset: &EndpointSubset) -> impl Iterator<Item = (&EndpointAddress, bool)> {
    let ready = subset.addresses.iter().flatten().map(|a| (a, true));
    ready.chain(subset.not_ready_addresses.iter().flatten().map(|a| (a, false)))
}

fn ports_of(subset: &EndpointSubset) -> Vec<EndpointPort> {
    let port = |p: &k8s_openapi::api::core::v1::EndpointPort| EndpointPort {
        name: Some(p.name.clone().unwrap_or_default()),
        port: Some(p.port),
        protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: p.app_protocol.clone(),
    };
    subset.ports.iter().flatten().map(port).collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn frame_meta(endpoints: &Endpoints) -> ObjectMeta {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_LABEL.to_owned(), name.clone());
    labels.insert(MANAGED_BY_LABEL.to_owned(), CONTROLLER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| key != LAST_APPLIED && key != TRIGGER_TIME);
    ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: endpoints.metadata.namespace.clone(),
        labels: Some(labels),
        annotations: Some(annotations).filter(|a| !a.is_empty()),
        owner_references: Some(vec![controller_reference(endpoints)]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;
    use serde_json::json;

    #[test]
    fn each_family_and_port_list_has_a_slice() {
        let endpoints: Endpoints =
            object(json!({"metadata": {"name": "db", "namespace": "ns", "uid": "e"}, "subsets": [{
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
            "ports": [{"port": 5432}]}]}));
        let actions = plan(&endpoints, &[], 1000);
        let made: Vec<_> = actions
            .iter()
            .map(|a| match a {
                Action::Create(s) => (s.address_type.as_str(), s.endpoints.as_ref().unwrap().len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(made, [("IPv4", 2), ("IPv6", 1)]);
        let existing: Vec<Arc<EndpointSlice>> = actions
            .into_iter()
            .filter_map(|a| if let Action::Create(s) = a { Some(Arc::new(s)) } else { None })
            .collect();
        assert_eq!(plan(&endpoints, &existing, 1000), []);
        assert!(is_to_be_mirrored(&endpoints));
        let skipped = object(json!({"metadata": {"labels": {SKIP_LABEL: "true"}}}));
        assert!(!is_to_be_mirrored(&skipped));
    }
}
