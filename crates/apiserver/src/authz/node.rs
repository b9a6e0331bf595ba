//! Mode `Node`: a kubelet may read and write what its own node and the pods bound to it need (upstream's node
//! authorizer).

use std::sync::Arc;

use async_trait::async_trait;
use base::UserInfo;
use schema::Value;

use super::rbac::Rule;
use super::{Attributes, Authorizer, Decision};
use crate::registry::Registry;

const NODES_GROUP: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// The node that `user` is the kubelet of.
pub fn node_of(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty())?;
    user.groups.iter().any(|group| group == NODES_GROUP).then_some(name)
}

/// Decides the requests of kubelets.
pub struct NodeAuthorizer {
    registry: Arc<Registry>,
    rules: Vec<Rule>,
}

impl NodeAuthorizer {
    /// Looks at the pods of `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, rules: general_rules() }
    }

    fn pods_of(&self, node: &str) -> Vec<Arc<Value>> {
        let pods = self.registry.find_all("", "pods", None).unwrap_or_default();
        pods.into_iter().filter(|pod| pod.str_at("spec.nodeName") == Some(node)).collect()
    }

    /// Reads of one object that some pod of the node names.
    fn read_of_pods(&self, node: &str, asked: &Attributes, names: fn(&Value) -> Vec<&str>) -> Decision {
        if !matches!(asked.verb.as_str(), "get" | "list" | "watch") || !asked.subresource.is_empty() {
            return no(format!("can only read resources of this type, not {}", asked.verb));
        }
        if asked.name.is_empty() {
            return no("No Object name found".to_owned());
        }
        let named = self.pods_of(node).iter().any(|pod| {
            pod.str_at("metadata.namespace").unwrap_or_default() == asked.namespace
                && names(pod).contains(&asked.name.as_str())
        });
        match named {
            true => yes(),
            false => no(format!("no relationship found between node '{node}' and this object")),
        }
    }

    fn token(&self, node: &str, asked: &Attributes) -> Decision {
        if asked.verb != "create" || asked.subresource != "token" {
            return match (asked.verb.as_str(), asked.subresource.as_str()) {
                ("get", "") => self.read_of_pods(node, asked, service_account),
                _ => no("can only create tokens for individual service accounts".to_owned()),
            };
        }
        let asked = Attributes { verb: "get".to_owned(), subresource: String::new(), ..asked.clone() };
        self.read_of_pods(node, &asked, service_account)
    }

    fn volume(&self, node: &str, asked: &Attributes) -> Decision {
        let claims: Vec<(String, String)> = self
            .pods_of(node)
            .iter()
            .flat_map(|pod| {
                let namespace = pod.str_at("metadata.namespace").unwrap_or_default().to_owned();
                claims(pod)
                    .into_iter()
                    .map(move |claim| (namespace.clone(), claim.to_owned()))
                    .collect::<Vec<_>>()
            })
            .collect();
        let volume = self.registry.find("", "persistentvolumes", "", &asked.name).ok().flatten();
        let claimed = volume.is_some_and(|volume| {
            let text = |path: &str| volume.str_at(path).unwrap_or_default().to_owned();
            claims.contains(&(text("spec.claimRef.namespace"), text("spec.claimRef.name")))
        });
        match asked.verb == "get" && claimed {
            true => yes(),
            false => no(format!("no relationship found between node '{node}' and this object")),
        }
    }

    /// Its own object of a kind that bears the node's name.
    fn own(&self, node: &str, asked: &Attributes, verbs: &[&str]) -> Decision {
        if !verbs.contains(&asked.verb.as_str()) {
            return no(format!("can only {} a resource of this type", verbs.join(", ")));
        }
        match asked.verb == "create" || asked.name == node {
            true => yes(),
            false => no("can only access the object with the same name as the requesting node".to_owned()),
        }
    }

    fn pods(&self, node: &str, asked: &Attributes) -> Decision {
        match (asked.verb.as_str(), asked.subresource.as_str()) {
            ("get", "") => {
                let pod = self.registry.find("", "pods", &asked.namespace, &asked.name).ok().flatten();
                match pod.is_none_or(|pod| pod.str_at("spec.nodeName") == Some(node)) {
                    true => yes(),
                    false => no(format!("no relationship found between node '{node}' and this object")),
                }
            }
            ("list" | "watch", "") => {
                let own = format!("spec.nodeName={node}");
                let selects =
                    asked.field_selector.as_ref().is_none_or(|s| s.split(',').any(|part| part == own));
                if selects {
                    yes()
                } else {
                    no("can only list/watch pods with spec.nodeName field selector".to_owned())
                }
            }
            _ => self.general(asked),
        }
    }

    fn general(&self, asked: &Attributes) -> Decision {
        match self.rules.iter().any(|rule| rule.allows(asked)) {
            true => yes(),
            false => Decision::NoOpinion(String::new()),
        }
    }
}

fn yes() -> Decision {
    Decision::Allow(String::new())
}

fn no(why: String) -> Decision {
    Decision::NoOpinion(why)
}

/// Every text at a dotted path below the items of a pod's list.
fn texts<'a>(pod: &'a Value, list: &str, path: &str) -> Vec<&'a str> {
    pod.items_at(list).iter().filter_map(|item| item.str_at(path)).collect()
}

fn from_containers<'a>(pod: &'a Value, reference: &str, source: &str) -> Vec<&'a str> {
    let lists = ["spec.containers", "spec.initContainers", "spec.ephemeralContainers"];
    let containers = lists.into_iter().flat_map(|list| pod.items_at(list));
    let env = format!("valueFrom.{reference}.name");
    let from = format!("{source}.name");
    let mut found = Vec::new();
    for container in containers {
        found.extend(container.items_at("env").iter().filter_map(|item| item.str_at(&env)));
        found.extend(container.items_at("envFrom").iter().filter_map(|item| item.str_at(&from)));
    }
    found
}

fn secrets(pod: &Value) -> Vec<&str> {
    let mut found = from_containers(pod, "secretKeyRef", "secretRef");
    found.extend(texts(pod, "spec.imagePullSecrets", "name"));
    found.extend(texts(pod, "spec.volumes", "secret.secretName"));
    for path in [
        "csi.nodePublishSecretRef.name",
        "cephfs.secretRef.name",
        "rbd.secretRef.name",
        "iscsi.secretRef.name",
        "flexVolume.secretRef.name",
        "scaleIO.secretRef.name",
        "storageos.secretRef.name",
        "azureFile.secretName",
    ] {
        found.extend(texts(pod, "spec.volumes", path));
    }
    found.extend(projected(pod, "secret.name"));
    found
}

fn config_maps(pod: &Value) -> Vec<&str> {
    let mut found = from_containers(pod, "configMapKeyRef", "configMapRef");
    found.extend(texts(pod, "spec.volumes", "configMap.name"));
    found.extend(projected(pod, "configMap.name"));
    found
}

fn projected<'a>(pod: &'a Value, path: &str) -> Vec<&'a str> {
    let sources = pod.items_at("spec.volumes").iter().flat_map(|volume| volume.items_at("projected.sources"));
    sources.filter_map(|source| source.str_at(path)).collect()
}

fn claims(pod: &Value) -> Vec<&str> {
    texts(pod, "spec.volumes", "persistentVolumeClaim.claimName")
}

fn service_account(pod: &Value) -> Vec<&str> {
    pod.str_at("spec.serviceAccountName").into_iter().collect()
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, asked: &Attributes) -> Decision {
        let Some(node) = node_of(&asked.user) else { return Decision::NoOpinion(String::new()) };
        if !asked.is_resource {
            return self.general(asked);
        }
        match (asked.api_group.as_str(), asked.resource.as_str()) {
            ("", "secrets") => self.read_of_pods(node, asked, secrets),
            ("", "configmaps") => self.read_of_pods(node, asked, config_maps),
            ("", "persistentvolumeclaims") if asked.subresource == "status" => self.general(asked),
            ("", "persistentvolumeclaims") => self.read_of_pods(node, asked, claims),
            ("", "persistentvolumes") => self.volume(node, asked),
            ("", "serviceaccounts") => self.token(node, asked),
            ("", "pods") => self.pods(node, asked),
            ("", "nodes") if asked.verb == "get" && asked.name != node => {
                no(format!("node '{node}' cannot read '{}', only its own Node object", asked.name))
            }
            ("coordination.k8s.io", "leases") if asked.namespace == "kube-node-lease" => {
                self.own(node, asked, &["get", "create", "update", "patch", "delete"])
            }
            ("storage.k8s.io", "csinodes") => {
                self.own(node, asked, &["get", "create", "update", "patch", "delete"])
            }
            _ => self.general(asked),
        }
    }
}

/// What every kubelet may do, whatever its pods are (upstream's NodeRules).
fn general_rules() -> Vec<Rule> {
    let rule = |verbs: &[&str], groups: &[&str], resources: &[&str]| Rule {
        verbs: verbs.iter().map(|v| (*v).into()).collect(),
        groups: groups.iter().map(|g| (*g).into()).collect(),
        resources: resources.iter().map(|r| (*r).into()).collect(),
        ..Rule::default()
    };
    let read = ["get", "list", "watch"];
    vec![
        rule(&["create"], &["authentication.k8s.io"], &["tokenreviews"]),
        rule(&["create"], &["authorization.k8s.io"], &["localsubjectaccessreviews", "subjectaccessreviews"]),
        rule(&read, &[""], &["services"]),
        rule(&["create", "get", "list", "watch", "update", "patch"], &[""], &["nodes"]),
        rule(&["update", "patch"], &[""], &["nodes/status"]),
        rule(&["create", "delete"], &[""], &["pods"]),
        rule(&["update", "patch"], &[""], &["pods/status"]),
        rule(&["create"], &[""], &["pods/eviction"]),
        rule(&["create", "update", "patch"], &["", "events.k8s.io"], &["events"]),
        rule(&["get", "update", "patch"], &[""], &["persistentvolumeclaims/status"]),
        rule(&["create", "get", "list", "watch"], &["certificates.k8s.io"], &["certificatesigningrequests"]),
        rule(&["create", "get", "list", "watch"], &["certificates.k8s.io"], &["podcertificaterequests"]),
        rule(&read, &["certificates.k8s.io"], &["clustertrustbundles"]),
        rule(&["get"], &["storage.k8s.io"], &["volumeattachments"]),
        rule(&read, &["storage.k8s.io"], &["csidrivers"]),
        rule(&read, &["node.k8s.io"], &["runtimeclasses"]),
        rule(&["get"], &["resource.k8s.io"], &["resourceclaims"]),
        rule(
            &["create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"],
            &["resource.k8s.io"],
            &["resourceslices"],
        ),
    ]
}
