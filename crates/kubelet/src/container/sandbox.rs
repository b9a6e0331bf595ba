//! What a pod's sandbox is made with (upstream `generatePodSandboxConfig`).

use std::path::{Path, PathBuf};

use base::Quantity;
use k8s_openapi::api::core::v1::Pod;
use proto::cri::v1::{
    DnsConfig, LinuxContainerResources, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata,
    PortMapping, Protocol,
};

use super::security::{self, NodeSecurity};
use super::{hosts, linux};
use crate::cri::labels;
use crate::pod::resources::amount;
use crate::pod::spec;

/// What a sandbox is made from.
#[derive(Debug)]
pub struct SandboxInputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The how manieth sandbox, from 0.
    pub attempt: u32,
    /// Its resolver configuration.
    pub dns: DnsConfig,
    /// The cluster's domain.
    pub cluster_domain: &'a str,
    /// Where all pods' logs lie.
    pub pod_logs_dir: &'a Path,
    /// The pod's cgroup; empty leaves it to the runtime.
    pub cgroup_parent: String,
    /// What the node decides.
    pub security: NodeSecurity<'a>,
}

/// The folder of a pod's logs: `namespace_name_uid`.
pub fn log_directory(pod_logs_dir: &Path, pod: &Pod) -> PathBuf {
    pod_logs_dir.join(format!("{}_{}_{}", spec::namespace(pod), spec::name(pod), spec::uid(pod)))
}

/// The sandbox's configuration.
pub fn sandbox_config(inputs: SandboxInputs<'_>) -> PodSandboxConfig {
    let pod = inputs.pod;
    let hostname = match spec::host_network(pod) {
        true => String::new(),
        false => hosts::sandbox_hostname(pod, inputs.cluster_domain),
    };
    let sysctls = spec::spec(pod).security_context.iter().flat_map(|s| s.sysctls.iter().flatten());
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: spec::name(pod).to_owned(),
            uid: spec::uid(pod).to_string(),
            namespace: spec::namespace(pod).to_owned(),
            attempt: inputs.attempt,
        }),
        hostname,
        log_directory: log_directory(inputs.pod_logs_dir, pod).display().to_string(),
        dns_config: Some(inputs.dns),
        port_mappings: port_mappings(pod),
        labels: labels::sandbox_labels(pod),
        annotations: labels::sandbox_annotations(pod),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: inputs.cgroup_parent,
            security_context: Some(security::of_sandbox(pod, inputs.security)),
            sysctls: sysctls.map(|s| (s.name.clone(), s.value.clone())).collect(),
            overhead: Some(overhead(pod)),
            resources: Some(linux::sandbox_resources(pod)),
        }),
        windows: None,
    }
}

fn overhead(pod: &Pod) -> LinuxContainerResources {
    let list = spec::spec(pod).overhead.as_ref();
    let Some(_) = list else { return LinuxContainerResources::default() };
    let milli = |q: Option<Quantity>| q.map_or(0, |q| q.milli_value());
    LinuxContainerResources {
        cpu_period: linux::PERIOD_US,
        cpu_quota: linux::cpu_quota_us(milli(amount(list, "cpu"))),
        cpu_shares: linux::cpu_shares(milli(amount(list, "cpu"))),
        memory_limit_in_bytes: amount(list, "memory").map_or(0, |q| q.value()),
        ..Default::default()
    }
}

fn port_mappings(pod: &Pod) -> Vec<PortMapping> {
    if spec::host_network(pod) {
        return Vec::new();
    }
    let ports = spec::all_containers(pod).flat_map(|c| c.container.into_owned().ports.unwrap_or_default());
    let ports = ports.map(|port| PortMapping {
        protocol: match port.protocol.as_deref() {
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            _ => Protocol::Tcp,
        } as i32,
        container_port: port.container_port,
        host_port: port.host_port.unwrap_or(0),
        host_ip: port.host_ip.unwrap_or_default(),
    });
    ports.collect()
}
