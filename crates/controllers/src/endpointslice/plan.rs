//! Which slices a service has to have.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::CONTROLLER;
use super::endpoints::ports_key;
use super::slices::{Action, Frame, MANAGED_BY_LABEL, SERVICE_LABEL, distribute, is_owned_by, reuse};
use crate::common::owner::controller_reference;
use crate::common::services::{HEADLESS_LABEL, TRIGGER_TIME, is_headless};

/// The endpoints of one address family, grouped by ports.
#[derive(Debug, Clone)]
pub struct Desired {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Ports, and the endpoints that have them.
    pub groups: Vec<(Vec<EndpointPort>, Vec<Endpoint>)>,
}

/// The writes that make `existing` show `desired`.
pub fn plan(
    service: &Service,
    desired: Vec<Desired>,
    existing: &[Arc<EndpointSlice>],
    trigger: Option<Timestamp>,
    limit: usize,
) -> Vec<Action> {
    let owner = controller_reference(service);
    let families: Vec<String> = desired.iter().map(|d| d.family.clone()).collect();
    let (usable, useless): (Vec<_>, Vec<_>) = existing
        .iter()
        .cloned()
        .partition(|slice| families.contains(&slice.address_type) && is_owned_by(slice, &owner));
    let mut actions: Vec<Action> = useless.into_iter().map(Action::Delete).collect();
    for Desired { family, groups } in desired {
        let of_family: Vec<Arc<EndpointSlice>> =
            usable.iter().filter(|slice| slice.address_type == family).cloned().collect();
        let frame = Frame { meta: frame_meta(service, trigger), family: &family, limit };
        actions.extend(reuse(plan_family(&frame, groups, &of_family)));
    }
    actions
}

fn plan_family(
    frame: &Frame<'_>,
    groups: Vec<(Vec<EndpointPort>, Vec<Endpoint>)>,
    existing: &[Arc<EndpointSlice>],
) -> Vec<Action> {
    let mut by_ports: BTreeMap<String, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        let key = ports_key(slice.ports.as_deref().unwrap_or_default());
        by_ports.entry(key).or_default().push(slice.clone());
    }
    let mut actions = Vec::new();
    for (ports, endpoints) in groups {
        let of_ports = by_ports.remove(&ports_key(&ports)).unwrap_or_default();
        actions.extend(distribute(frame, &ports, endpoints, &of_ports));
    }
    actions.extend(by_ports.into_values().flatten().map(Action::Delete));
    let deleted = actions.iter().filter(|a| matches!(a, Action::Delete(_))).count();
    let created = actions.iter().any(|a| matches!(a, Action::Create(_)));
    if deleted == existing.len() && !created {
        // A service without endpoints has one empty slice, so that readers know it is so.
        return keep_empty(frame, existing, actions);
    }
    actions
}

/// An empty slice that is there already stays as it is.
fn keep_empty(frame: &Frame<'_>, existing: &[Arc<EndpointSlice>], mut actions: Vec<Action>) -> Vec<Action> {
    let is_placeholder = |slice: &EndpointSlice| {
        slice.endpoints.as_ref().is_none_or(Vec::is_empty)
            && slice.ports.as_ref().is_none_or(Vec::is_empty)
            && slice.metadata.labels == frame.meta.labels
    };
    match existing.iter().find(|slice| is_placeholder(slice)) {
        Some(kept) => actions.retain(|a| !matches!(a, Action::Delete(slice) if Arc::ptr_eq(slice, kept))),
        None => actions.push(Action::Create(frame.slice(&[], Vec::new()))),
    }
    actions
}

fn frame_meta(service: &Service, trigger: Option<Timestamp>) -> ObjectMeta {
    let name = service.metadata.name.clone().unwrap_or_default();
    let mut labels: BTreeMap<String, String> = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    labels.insert(SERVICE_LABEL.to_owned(), name.clone());
    labels.insert(MANAGED_BY_LABEL.to_owned(), CONTROLLER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: service.metadata.namespace.clone(),
        labels: Some(labels),
        annotations: trigger.map(|at| BTreeMap::from([(TRIGGER_TIME.to_owned(), at.to_string())])),
        owner_references: Some(vec![controller_reference(service)]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoints::desired;
    use super::*;
    use crate::common::testing::{PodBuilder, object, pod};
    use k8s_openapi::api::core::v1::{Node, Pod};
    use serde_json::{Value, json};

    fn service(spec: Value) -> Service {
        let mut whole = json!({"clusterIP": "10.96.0.5", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]});
        for (name, value) in spec.as_object().unwrap() {
            whole[name] = value.clone();
        }
        object(
            json!({"metadata": {"name": "web", "namespace": "ns", "uid": "s", "labels": {"team": "a"}}, "spec": whole}),
        )
    }

    fn backend(name: &str, ip: &str, port: i32) -> PodBuilder {
        pod(name).on("n1").ready().with("/status", "podIPs", json!([{"ip": ip}])).with(
            "/spec",
            "containers",
            json!([{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]),
        )
    }

    fn node(name: &str) -> Option<Arc<Node>> {
        (name == "n1").then(|| {
            Arc::new(object(
                json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z"}}}),
            ))
        })
    }

    fn run(service: &Service, pods: Vec<Pod>, existing: &[Arc<EndpointSlice>], limit: usize) -> Vec<Action> {
        let pods: Vec<Arc<Pod>> = pods.into_iter().map(Arc::new).collect();
        let (wanted, _) = desired(service, &pods, node);
        plan(service, wanted, existing, None, limit)
    }

    fn created(actions: Vec<Action>) -> Vec<Arc<EndpointSlice>> {
        let named = |(i, action): (usize, Action)| match action {
            Action::Create(mut slice) => {
                slice.metadata.name = Some(format!("web-{i}"));
                Arc::new(slice)
            }
            other => panic!("{other:?}"),
        };
        actions.into_iter().enumerate().map(named).collect()
    }

    #[test]
    fn endpoints_say_what_their_pods_are() {
        let pods = vec![
            backend("a", "10.0.0.1", 8080).build(),
            backend("b", "10.0.0.2", 8080).leaving().build(),
            backend("c", "10.0.0.3", 8080).phase("Failed").build(),
            backend("d", "10.0.0.4", 9090).with("/status", "conditions", json!([])).build(),
        ];
        let slices = created(run(&service(json!({})), pods, &[], 100));
        let flat: Vec<Value> = slices
            .iter()
            .map(|s| {
                let ends: Vec<Value> = s
                    .endpoints
                    .iter()
                    .flatten()
                    .map(|e| json!([e.addresses[0], e.conditions, e.zone, e.node_name]))
                    .collect();
                json!({"port": s.ports.as_ref().unwrap()[0].port, "ends": ends})
            })
            .collect();
        assert_eq!(
            json!(flat),
            json!([
                {"port": 8080, "ends": [
                    ["10.0.0.1", {"ready": true, "serving": true, "terminating": false}, "z", "n1"],
                    ["10.0.0.2", {"ready": false, "serving": true, "terminating": true}, "z", "n1"]]},
                {"port": 9090, "ends": [["10.0.0.4", {"ready": false, "serving": false, "terminating": false}, "z", "n1"]]},
            ])
        );
        let labels = slices[0].metadata.labels.clone().unwrap();
        assert_eq!(
            json!(labels),
            json!({"team": "a", "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"})
        );
    }

    #[test]
    fn without_pods_there_is_one_empty_slice_and_headless_is_labelled() {
        let headless = service(json!({"clusterIP": "None"}));
        let slices = created(run(&headless, vec![], &[], 100));
        assert_eq!(slices.len(), 1);
        assert_eq!(slices[0].metadata.labels.as_ref().unwrap()[HEADLESS_LABEL], "");
        assert_eq!(run(&headless, vec![], &slices, 100), []);
        let actions = run(&headless, vec![backend("a", "10.0.0.1", 80).build()], &slices, 100);
        assert!(matches!(actions.as_slice(), [Action::Update(_)]), "{actions:?}");
    }

    #[test]
    fn only_what_changed_is_written() {
        let svc = service(json!({}));
        let many = |n: usize| {
            (0..n).map(|i| backend(&format!("p{i}"), &format!("10.0.0.{i}"), 80).build()).collect::<Vec<_>>()
        };
        let slices = created(run(&svc, many(5), &[], 2));
        assert_eq!(slices.iter().map(|s| s.endpoints.as_ref().unwrap().len()).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(run(&svc, many(5), &slices, 2), []);
        // The sixth goes where there is room, the seventh needs a slice of its own.
        assert!(matches!(run(&svc, many(6), &slices, 2).as_slice(), [Action::Update(s)]
            if s.endpoints.as_ref().unwrap().len() == 2));
        assert!(matches!(run(&svc, many(7), &slices, 2).as_slice(), [Action::Create(_)]));
        assert!(matches!(run(&svc, many(4), &slices, 2).as_slice(), [Action::Delete(_)]));
    }

    #[test]
    fn publish_not_ready_and_unknown_nodes() {
        let unready =
            || backend("a", "10.0.0.1", 80).with("/status", "conditions", json!([])).on("lost").build();
        let pods = vec![Arc::new(unready())];
        let (wanted, missing) = desired(&service(json!({})), &pods, node);
        assert!(wanted[0].groups.is_empty());
        assert_eq!(missing.as_deref(), Some("lost"));
        let (wanted, missing) = desired(&service(json!({"publishNotReadyAddresses": true})), &pods, node);
        let ready = wanted[0].groups[0].1[0].conditions.as_ref().unwrap().ready;
        assert_eq!((missing, ready), (None, Some(true)));
    }
}
