//! Objects that let machines join: the public cluster information, and what bootstrap tokens may do (kubeadm's names).

use base64::Engine;
use serde_json::{Value, json};

use super::{CONTROL_PLANES, NODES, admission};

const RBAC: &str = "rbac.authorization.k8s.io";

fn role(kind: &str, name: &str, namespace: Option<&str>, rules: Value) -> Value {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": metadata, "rules": rules})
}

fn binding(name: &str, role: &str, group: &str) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group}],
    })
}

/// What tokens may do, and who may read the cluster information: everybody.
pub fn rules() -> Vec<Value> {
    const INFO: &str = "kubeadm:bootstrap-signer-clusterinfo";
    const CSR: &str = "system:certificates.k8s.io:certificatesigningrequests";
    let read_info = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["cluster-info"], "verbs": ["get"]}]);
    vec![
        role("Role", INFO, Some("kube-public"), read_info),
        json!({
            "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding",
            "metadata": {"name": INFO, "namespace": "kube-public"},
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": INFO},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "system:anonymous"}],
        }),
        role(
            "ClusterRole",
            "corten:join-control-plane",
            None,
            json!([{"nonResourceURLs": [admission::PATH], "verbs": ["post"]}]),
        ),
        binding("corten:join-control-plane", "corten:join-control-plane", CONTROL_PLANES),
        binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", NODES),
        binding("kubeadm:node-autoapprove-bootstrap", &format!("{CSR}:nodeclient"), NODES),
        binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            &format!("{CSR}:selfnodeclient"),
            "system:nodes",
        ),
    ]
}

/// The public cluster information: where an API server is, and the authority in PEM.
pub fn cluster_info(server: &str, authority: &[u8]) -> Value {
    let authority = base64::engine::general_purpose::STANDARD.encode(authority);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "users": [], "contexts": [],
        "current-context": "",
        "clusters": [{"name": "", "cluster": {"server": server, "certificate-authority-data": authority}}],
    });
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "cluster-info", "namespace": "kube-public"},
        "data": {"kubeconfig": kubeconfig.to_string()},
    })
}
