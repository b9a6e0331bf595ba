//! NodeRestriction: a kubelet writes its own node and its own pods, and not the labels that others rely on.

use async_trait::async_trait;
use schema::{Map, Value};

use crate::admission::{Admission, Attributes, Operation};
use crate::authz::node::node_of;
use crate::registry::Registry;
use crate::status::ApiResult;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels below `kubernetes.io` and `k8s.io` that a kubelet may set on its node.
const OWN_LABELS: [&str; 14] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "kubernetes.io/instance-type",
];
const OWN_LABEL_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESERVED_NAMESPACE: &str = "node-restriction.kubernetes.io";

/// See the module.
pub struct NodeRestriction;

#[async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let Some(node) = node_of(attributes.user).map(str::to_owned) else { return Ok(()) };
        let group = attributes.resource.group.to_string();
        match (group.as_str(), attributes.resource.resource.as_str()) {
            ("", "pods") => pods(attributes, &node, registry),
            ("", "nodes") => nodes(attributes, &node),
            ("", "serviceaccounts") if attributes.subresource == "token" => {
                token(attributes, &node, registry)
            }
            ("coordination.k8s.io", "leases") => named(attributes, &node, "kube-node-lease"),
            ("storage.k8s.io", "csinodes") => named(attributes, &node, ""),
            _ => Ok(()),
        }
    }
}

fn pods(attributes: &Attributes<'_>, node: &str, registry: &Registry) -> ApiResult<()> {
    let refuse = |why: String| Err(attributes.forbidden(why));
    match (attributes.operation, attributes.subresource) {
        (Operation::Create, "") => {
            let annotations = attributes.object.map_at("metadata.annotations");
            if !annotations.is_some_and(|a| a.contains_key(MIRROR)) {
                return refuse(format!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
                ));
            }
            if attributes.object.str_at("spec.nodeName") != Some(node) {
                return refuse(format!(
                    "node {node:?} can only create pods with spec.nodeName set to itself"
                ));
            }
            let owners = attributes.object.items_at("metadata.ownerReferences");
            let owned =
                owners.iter().all(|o| o.str_at("kind") == Some("Node") && o.str_at("name") == Some(node));
            if owners.len() > 1 || !owned {
                return refuse(format!(
                    "node {node:?} can only create pods with an owner reference set to itself"
                ));
            }
            Ok(())
        }
        (Operation::Delete, "") | (Operation::Update, "status") | (Operation::Create, "eviction") => {
            let pod = registry.find("", "pods", attributes.namespace, attributes.name)?;
            match pod.is_none_or(|pod| pod.str_at("spec.nodeName") == Some(node)) {
                true => Ok(()),
                false => {
                    refuse(format!("node {node:?} can only change pods with spec.nodeName set to itself"))
                }
            }
        }
        (operation, subresource) => refuse(format!(
            "unexpected operation {:?} on pods/{subresource} by node {node:?}",
            operation.as_str()
        )),
    }
}

fn nodes(attributes: &Attributes<'_>, node: &str) -> ApiResult<()> {
    let name = match attributes.name {
        "" => attributes.object.str_at("metadata.name").unwrap_or_default(),
        name => name,
    };
    if name != node {
        return Err(attributes.forbidden(format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    if attributes.operation == Operation::Delete {
        return Err(attributes.forbidden(format!("node {node:?} is not allowed to delete nodes")));
    }
    if attributes.operation == Operation::Update && attributes.subresource.is_empty() {
        if attributes.old_object.at("spec.taints") != attributes.object.at("spec.taints") {
            return Err(attributes.forbidden(format!("node {node:?} is not allowed to modify taints")));
        }
        if attributes.old_object.at("metadata.ownerReferences")
            != attributes.object.at("metadata.ownerReferences")
        {
            return Err(
                attributes.forbidden(format!("node {node:?} is not allowed to modify ownerReferences"))
            );
        }
    }
    let changed = changed_labels(attributes.old_object, &attributes.object);
    let refused: Vec<&str> = changed.into_iter().filter(|label| !may_set(label)).collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(attributes.forbidden(format!("is not allowed to modify labels: {}", refused.join(", "))))
}

fn changed_labels<'a>(old: &'a Value, new: &'a Value) -> Vec<&'a str> {
    let (old, new) = (old.map_at("metadata.labels"), new.map_at("metadata.labels"));
    let labels = |map: Option<&'a Map>| map.map(Map::as_slice).unwrap_or_default().iter();
    let added = labels(new).filter(|(key, value)| old.and_then(|old| old.get(key)) != Some(value));
    let removed = labels(old).filter(|(key, _)| new.is_none_or(|new| !new.contains_key(key)));
    added.chain(removed).map(|(key, _)| key.as_str()).collect()
}

fn may_set(label: &str) -> bool {
    let Some((namespace, _)) = label.split_once('/') else { return true };
    let below = |domain: &str| namespace == domain || namespace.ends_with(&format!(".{domain}"));
    if below(RESERVED_NAMESPACE) {
        return false;
    }
    !(below("kubernetes.io") || below("k8s.io"))
        || OWN_LABELS.contains(&label)
        || OWN_LABEL_NAMESPACES.iter().any(|domain| below(domain))
}

fn token(attributes: &Attributes<'_>, node: &str, registry: &Registry) -> ApiResult<()> {
    let bound = attributes.object.at("spec.boundObjectRef").cloned().unwrap_or_default();
    if bound.str_at("kind") != Some("Pod") {
        return Err(attributes.forbidden("node requested token not bound to a pod"));
    }
    let name = bound.str_at("name").unwrap_or_default();
    let pod = registry.find("", "pods", attributes.namespace, name)?;
    let Some(pod) = pod else { return Err(attributes.forbidden(format!("pod {name:?} not found"))) };
    if pod.str_at("metadata.uid") != bound.str_at("uid") {
        return Err(attributes.forbidden("the UID in the bound object reference does not match the pod"));
    }
    if pod.str_at("spec.nodeName") != Some(node) {
        return Err(attributes.forbidden("node requested token bound to a pod scheduled on a different node"));
    }
    Ok(())
}

/// Objects that bear the node's name.
fn named(attributes: &Attributes<'_>, node: &str, namespace: &str) -> ApiResult<()> {
    if attributes.namespace != namespace {
        return Err(attributes.forbidden(format!("can only access objects in the {namespace:?} namespace")));
    }
    let name = match attributes.name {
        "" => attributes.object.str_at("metadata.name").unwrap_or_default(),
        name => name,
    };
    match name == node {
        true => Ok(()),
        false => {
            Err(attributes.forbidden("can only access an object with the same name as the requesting node"))
        }
    }
}
