//! What a cluster has beyond its components: the `kube-dns` service and what cluster DNS may read.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::settings::Settings;

/// Where cluster DNS listens at the bridge's address.
pub const DNS_PORT: u16 = 53;
/// How long a question to it may take, and the pause before it is asked again.
const DNS_TIMEOUT: Duration = Duration::from_millis(200);
const DNS_PAUSE: Duration = Duration::from_millis(10);
/// How long it may be before the cluster counts as broken.
const DNS_LIMIT: Duration = Duration::from_secs(30);
const MANAGER: &str = "corten";
const DNS_NAME: &str = "kube-dns";
/// The endpoint of cluster DNS of a single control plane.
const LONE_DNS: &str = "kube-dns-corten";

/// Applies objects. Others' changes to other fields stay.
pub async fn apply(client: &Client, objects: &[Value]) -> anyhow::Result<()> {
    for object in objects {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let api: Api<DynamicObject> = match object.pointer("/metadata/namespace").and_then(Value::as_str) {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let params = PatchParams::apply(MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(object)).await.with_context(|| format!("{kind} {name}"))?;
    }
    Ok(())
}

/// The `kube-dns` service. With several nodes each has a DNS server of its own, and pods ask the one of their node.
pub fn dns_service(settings: &Settings) -> Value {
    let address = settings.dns_address().to_string();
    let labels = json!({"k8s-app": DNS_NAME, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"});
    let port = |protocol: &str, name: &str| json!({"name": name, "port": 53, "protocol": protocol, "targetPort": DNS_PORT});
    let policy = if settings.role.is_shared() { "Local" } else { "Cluster" };
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": DNS_NAME, "namespace": "kube-system", "labels": labels},
        "spec": {"clusterIP": address, "clusterIPs": [address], "type": "ClusterIP",
            "internalTrafficPolicy": policy, "ports": [port("UDP", "dns"), port("TCP", "dns-tcp")]},
    })
}

/// Removes the endpoint that cluster DNS had while the cluster had one control plane: nodes' own ones take its place.
pub async fn forget_lone_dns(client: &Client) -> anyhow::Result<()> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "kube-system");
    match slices.delete(LONE_DNS, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).context("the endpoint of cluster DNS"),
        Ok(_) => Ok(()),
    }
}

/// Where cluster DNS listens on this node: at `gateway`. With several nodes each has an endpoint of its own, which goes
/// with the Node of uid `node_uid`.
pub fn dns_endpoint(settings: &Settings, gateway: Ipv4Addr, node_uid: Option<&str>) -> Value {
    let port = |protocol: &str, name: &str| json!({"name": name, "port": DNS_PORT, "protocol": protocol});
    let node = &settings.node_name;
    let mut endpoint = json!({"addresses": [gateway.to_string()], "conditions": {"ready": true}});
    let mut metadata = json!({"name": LONE_DNS, "namespace": "kube-system",
        "labels": {"kubernetes.io/service-name": DNS_NAME, "endpointslice.kubernetes.io/managed-by": "corten"}});
    if let Some(uid) = node_uid {
        endpoint["nodeName"] = node.as_str().into();
        metadata["name"] = format!("kube-dns-{node}").into();
        metadata["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}]);
    }
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
        "addressType": "IPv4", "endpoints": [endpoint],
        "ports": [port("UDP", "dns"), port("TCP", "dns-tcp")],
    })
}

/// What cluster DNS may read.
pub fn dns_rules() -> Vec<Value> {
    let read = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["list", "watch"]});
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "coredns", "namespace": "kube-system"},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "system:coredns"},
            "rules": [
                read("", &["endpoints", "services", "pods", "namespaces"]),
                read("discovery.k8s.io", &["endpointslices"]),
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:coredns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
            "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}],
        }),
    ]
}

/// Waits until cluster DNS answers at its service's address; fails with a sentence after [`DNS_LIMIT`].
pub async fn wait_for_dns(settings: &Settings) -> anyhow::Result<()> {
    let address = SocketAddr::from((settings.dns_address(), 53));
    let mut complaint = "it does not answer".to_owned();
    // Whether a packet gets through the kernel's rules can only be tried.
    let asked = async {
        loop {
            match tokio::time::timeout(DNS_TIMEOUT, ask_dns(settings, address)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => complaint = format!("{error:#}"),
                Err(_) => {}
            }
            tokio::time::sleep(DNS_PAUSE).await;
        }
    };
    let answered = tokio::time::timeout(DNS_LIMIT, asked).await;
    answered.map_err(|_| {
        let seconds = DNS_LIMIT.as_secs();
        anyhow::anyhow!("cluster DNS cannot be reached at {address} after {seconds} s: {complaint}")
    })
}

/// Asks for the `kubernetes` service once.
async fn ask_dns(settings: &Settings, address: SocketAddr) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).await?;
    socket.connect(address).await?;
    socket.send(&question(&format!("kubernetes.default.svc.{}", settings.cluster_domain))).await?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).await?;
    let found = length > 7 && answer[3] & 0x0f == 0 && answer[7] > 0;
    anyhow::ensure!(found, "it does not know the service kubernetes");
    Ok(())
}

/// A question for the IPv4 address of `name`.
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0x63, 0x74, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty() && label.len() < 64) {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}
