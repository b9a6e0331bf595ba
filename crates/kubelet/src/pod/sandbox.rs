//! Making a pod's sandbox.

use client::EventType;
use k8s_openapi::api::core::v1::Pod;
use proto::cri::v1::{PodSandboxConfig, RunPodSandboxRequest};

use super::{resources, runtime_class, spec};
use crate::container::sandbox::{SandboxInputs, log_directory, sandbox_config};
use crate::container::{dns, linux};
use crate::events::pod_reference;
use crate::shared::Shared;

/// The configuration of the pod's `attempt`-th sandbox.
pub fn config(shared: &Shared, pod: &Pod, attempt: u32) -> PodSandboxConfig {
    let config = &shared.config;
    sandbox_config(SandboxInputs {
        pod,
        attempt,
        dns: dns::dns_config(pod, &shared.host_dns, &config.cluster_dns, &config.cluster_domain),
        cluster_domain: &config.cluster_domain,
        pod_logs_dir: &config.pod_logs_dir,
        cgroup_parent: shared.cgroups.of_pod(resources::qos_class(pod), &spec::uid(pod)),
        security: shared.security(),
    })
}

/// Makes the sandbox with its cgroup and log folder. The error is for events.
pub async fn create(shared: &Shared, pod: &Pod, attempt: u32) -> Result<(), String> {
    let made = try_create(shared, pod, attempt).await;
    if let Err(error) = &made {
        let text = format!("Failed to create pod sandbox: {error}");
        shared.events.event_at(pod_reference(pod), EventType::Warning, "FailedCreatePodSandBox", text);
    }
    made
}

/// Names what the pod asks for and this kubelet cannot give.
fn check_supported(pod: &Pod) -> Result<(), String> {
    let spec = spec::spec(pod);
    if spec.host_users == Some(false) {
        return Err("hostUsers: false (user namespaces) is not supported by this kubelet".to_owned());
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        return Err(
            "resourceClaims (dynamic resource allocation) are not supported by this kubelet".to_owned()
        );
    }
    Ok(())
}

async fn try_create(shared: &Shared, pod: &Pod, attempt: u32) -> Result<(), String> {
    check_supported(pod)?;
    let uid = spec::uid(pod);
    let limits = linux::pod_limits(pod, shared.config.pod_pids_limit);
    shared.cgroups.make_pod(resources::qos_class(pod), &uid, limits).map_err(|e| format!("cgroup: {e}"))?;
    shared.groups_changed.notify_one();
    let logs = log_directory(&shared.config.pod_logs_dir, pod);
    std::fs::create_dir_all(&logs).map_err(|e| format!("{}: {e}", logs.display()))?;
    let runtime_handler = runtime_class::handler(&shared.client, pod).await?;
    let request = RunPodSandboxRequest { config: Some(config(shared, pod, attempt)), runtime_handler };
    shared.cri.run_pod_sandbox(request).await.map(drop).map_err(|e| e.to_string())
}
