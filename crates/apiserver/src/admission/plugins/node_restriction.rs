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
            ("", "persistentvolumeclaims") => claims(attributes, &node),
            ("resource.k8s.io", "resourceslices") => slices(attributes, &node),
            _ => Ok(()),
        }
    }
}

fn pods(attributes: &Attributes<'_>, node: &str, registry: &Registry) -> ApiResult<()> {
    let what = match (attributes.operation, attributes.subresource) {
        (Operation::Create, "") => return created_pod(attributes, node, registry),
        (Operation::Delete, "") => "delete pods",
        (Operation::Update, "status") => "update pod status for pods",
        (Operation::Create, "eviction") => "evict pods",
        (operation, "" | "status" | "eviction") => {
            let words = format!("unexpected operation {:?} for node {node:?}", operation.as_str());
            return Err(attributes.forbidden(words));
        }
        (_, subresource) => {
            return Err(attributes.forbidden(format!(
                "unexpected pod subresource {subresource:?}, only 'status' and 'eviction' are allowed"
            )));
        }
    };
    let pod = registry.find("", "pods", attributes.namespace, attributes.name)?;
    if pod.is_some_and(|pod| pod.str_at("spec.nodeName") != Some(node)) {
        let words = format!("node {node:?} can only {what} with spec.nodeName set to itself");
        return Err(attributes.forbidden(words));
    }
    let labels = |pod: &Value| pod.at("metadata.labels").cloned().unwrap_or_default();
    if attributes.subresource == "status" && labels(attributes.old_object) != labels(&attributes.object) {
        return Err(attributes.forbidden(format!("node {node:?} cannot update labels through pod status")));
    }
    Ok(())
}

/// A kubelet makes mirrors of static pods, which use nothing of the cluster's.
fn created_pod(attributes: &Attributes<'_>, node: &str, registry: &Registry) -> ApiResult<()> {
    let (pod, refuse) = (&attributes.object, |why: String| Err(attributes.forbidden(why)));
    if !pod.map_at("metadata.annotations").is_some_and(|a| a.contains_key(MIRROR)) {
        return refuse(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if pod.str_at("spec.nodeName") != Some(node) {
        return refuse(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owners = pod.items_at("metadata.ownerReferences");
    let own = registry.find("", "nodes", "", node)?;
    let uid = own.as_ref().and_then(|own| own.str_at("metadata.uid"));
    let is_own = |owner: &Value| {
        owner.str_at("kind") == Some("Node")
            && owner.str_at("name") == Some(node)
            && uid.is_none_or(|uid| owner.str_at("uid") == Some(uid))
            && owner.bool_at("blockOwnerDeletion") != Some(true)
    };
    if owners.len() > 1 || !owners.iter().all(is_own) {
        return refuse(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if pod.str_at("spec.serviceAccountName").is_some_and(|name| !name.is_empty()) {
        return refuse(format!("node {node:?} can not create pods that reference a service account"));
    }
    match referenced(&pod["spec"]) {
        Some(what) => refuse(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

/// What of the cluster a pod's spec names, if anything.
fn referenced(spec: &Value) -> Option<&'static str> {
    if !spec.items_at("imagePullSecrets").is_empty() {
        return Some("secrets");
    }
    if !spec.items_at("resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    for volume in spec.items_at("volumes") {
        let sources = volume.items_at("projected.sources");
        let has = |field: &str| volume.get(field).is_some() || sources.iter().any(|s| s.get(field).is_some());
        for (field, what) in [
            ("secret", "secrets"),
            ("configMap", "configmaps"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
        ] {
            if has(field) {
                return Some(what);
            }
        }
    }
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    for container in lists.into_iter().flat_map(|list| spec.items_at(list)) {
        let from = container.items_at("envFrom").iter();
        let values = container.items_at("env").iter().filter_map(|variable| variable.get("valueFrom"));
        for source in from.chain(values) {
            if source.get("secretRef").or(source.get("secretKeyRef")).is_some() {
                return Some("secrets");
            }
            if source.get("configMapRef").or(source.get("configMapKeyRef")).is_some() {
                return Some("configmaps");
            }
        }
    }
    None
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
    let list = refused.join(", ");
    Err(attributes.forbidden(match attributes.operation {
        Operation::Create => format!("node {node:?} is not allowed to set the following labels: {list}"),
        _ => format!("is not allowed to modify labels: {list}"),
    }))
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
    let leases = !namespace.is_empty();
    if attributes.namespace != namespace {
        let words = format!("can only access leases in the {namespace:?} system namespace");
        return Err(attributes.forbidden(words));
    }
    let name = match attributes.name {
        "" => attributes.object.str_at("metadata.name").unwrap_or_default(),
        name => name,
    };
    if name == node {
        return Ok(());
    }
    let what = if leases { "node lease" } else { "CSINode" };
    Err(attributes.forbidden(format!("can only access {what} with the same name as the requesting node")))
}

/// Slices say which node they are of.
fn slices(attributes: &Attributes<'_>, node: &str) -> ApiResult<()> {
    let holder = if attributes.object.is_null() { attributes.old_object } else { &attributes.object };
    match holder.str_at("spec.nodeName") {
        Some(name) if name == node => Ok(()),
        _ => Err(attributes
            .forbidden("can only access ResourceSlice with the same NodeName as the requesting node")),
    }
}

/// Of claims a kubelet writes how far it has grown their volumes.
fn claims(attributes: &Attributes<'_>, node: &str) -> ApiResult<()> {
    if attributes.operation != Operation::Update || attributes.subresource != "status" {
        let words = format!("unexpected operation {:?} for node {node:?}", attributes.operation.as_str());
        return Err(attributes.forbidden(words));
    }
    let bare = |claim: &Value| {
        let mut claim = claim.clone();
        for field in ["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"] {
            claim.remove_at(&format!("status.{field}"));
        }
        claim.remove_at("metadata.managedFields");
        claim.remove_at("metadata.resourceVersion");
        claim
    };
    match bare(attributes.old_object) == bare(&attributes.object) {
        true => Ok(()),
        false => Err(attributes.forbidden(format!(
            "node {node:?} is not allowed to update fields other than status quantity and conditions"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn labels_of_others_are_refused() {
        for (label, allowed) in [
            ("kubernetes.io/hostname", true),
            ("node-role.kubernetes.io/x", false),
            ("x.node.kubernetes.io/y", true),
            ("node-restriction.kubernetes.io/z", false),
            ("example.com/a", true),
            ("plain", true),
        ] {
            assert_eq!(may_set(label), allowed, "{label}");
        }
    }

    #[test]
    fn static_pods_use_nothing_of_the_cluster() {
        assert_eq!(
            referenced(&value!({"containers": [{"name": "c"}], "volumes": [{"hostPath": {"path": "/"}}]})),
            None
        );
        for (spec, what) in [
            (value!({"volumes": [{"projected": {"sources": [{"configMap": {"name": "m"}}]}}]}), "configmaps"),
            (value!({"volumes": [{"persistentVolumeClaim": {"claimName": "c"}}]}), "persistentvolumeclaims"),
            (value!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]}), "secrets"),
            (value!({"initContainers": [{"envFrom": [{"configMapRef": {"name": "m"}}]}]}), "configmaps"),
        ] {
            assert_eq!(referenced(&spec), Some(what));
        }
    }
}
