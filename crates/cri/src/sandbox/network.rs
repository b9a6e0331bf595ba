//! A pod's network: its namespace and its attachment by plugins.

use std::path::PathBuf;

use proto::cri::v1::{PodSandboxConfig, Protocol};
use serde_json::{Map, Value, json};

use super::{Sandbox, SandboxRecord};
use crate::cni::{Attachment, Cni};
use crate::disk::{self, blocking};
use crate::error::Result;
use crate::netns;

const INGRESS_ANNOTATION: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS_ANNOTATION: &str = "kubernetes.io/egress-bandwidth";
/// How much may pass at once when a rate is limited: the plugin's own largest.
const BANDWIDTH_BURST: i64 = i32::MAX as i64;

/// Makes the pod's network namespace, on a file that is in the record already.
pub async fn create_namespace(sandbox: &Sandbox) -> Result<()> {
    let Some(path) = sandbox.record.with(|r| r.netns.clone()) else { return Ok(()) };
    blocking(move || {
        if let Some(dir) = path.parent() {
            disk::make_private_dir(dir)?;
        }
        netns::create(&path)
    })
    .await
}

/// Attaches the pod; its addresses, the pod's IP first.
pub async fn attach(cni: &Cni, sandbox: &Sandbox) -> Result<Vec<String>> {
    let record = sandbox.record.get();
    if record.netns.is_none() {
        return Ok(Vec::new());
    }
    let result = cni.add(&attachment(&record)).await?;
    Ok(result.ips)
}

/// Detaches the pod and removes its namespace; as often as one likes.
pub async fn detach(cni: &Cni, sandbox: &Sandbox) -> Result<()> {
    let record = sandbox.record.get();
    let Some(path) = record.netns.clone() else { return Ok(()) };
    cni.del(&attachment(&record)).await?;
    blocking(move || netns::remove(&path)).await
}

fn attachment(record: &SandboxRecord) -> Attachment<'_> {
    let metadata = record.config.metadata.as_ref();
    let text =
        |field: fn(&proto::cri::v1::PodSandboxMetadata) -> &str| metadata.map(field).unwrap_or_default();
    Attachment {
        sandbox_id: &record.id,
        netns: record.netns.as_deref().filter(|path| netns::is_live(path)),
        pod_name: text(|m| &m.name),
        pod_namespace: text(|m| &m.namespace),
        pod_uid: text(|m| &m.uid),
        capabilities: capabilities(&record.config),
    }
}

fn capabilities(config: &PodSandboxConfig) -> Map<String, Value> {
    let mut given = Map::new();
    let ports: Vec<Value> = config
        .port_mappings
        .iter()
        .filter(|port| port.host_port > 0)
        .map(|port| {
            let protocol = match port.protocol() {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            };
            json!({
                "hostPort": port.host_port, "containerPort": port.container_port,
                "protocol": protocol, "hostIP": port.host_ip,
            })
        })
        .collect();
    if !ports.is_empty() {
        given.insert("portMappings".to_owned(), ports.into());
    }
    if let Some(dns) = &config.dns_config {
        let dns = json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options});
        given.insert("dns".to_owned(), dns);
    }
    let mut bandwidth = json!({});
    for (annotation, rate, burst) in [
        (INGRESS_ANNOTATION, "ingressRate", "ingressBurst"),
        (EGRESS_ANNOTATION, "egressRate", "egressBurst"),
    ] {
        let asked = config.annotations.get(annotation).and_then(|text| base::Quantity::parse(text).ok());
        if let Some(limit) = asked {
            bandwidth[rate] = limit.value().into();
            bandwidth[burst] = BANDWIDTH_BURST.into();
        }
    }
    if bandwidth.as_object().is_some_and(|b| !b.is_empty()) {
        given.insert("bandwidth".to_owned(), bandwidth);
    }
    if let Some(parent) = config.linux.as_ref().map(|l| &l.cgroup_parent).filter(|p| !p.is_empty()) {
        given.insert("cgroupPath".to_owned(), parent.as_str().into());
    }
    given
}

/// Where the namespaces' files are.
pub fn namespace_path(run_dir: &std::path::Path) -> PathBuf {
    run_dir.join("netns")
}
