//! Lifecycle hooks: postStart and preStop by exec, HTTP and sleep.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::cri::Cri;
use crate::probes::http;

/// Runs a hook in or against a container. The error is for an event.
pub async fn run_hook(
    cri: &Cri,
    handler: &LifecycleHandler,
    container: &Container,
    container_id: &str,
    pod_ip: Option<&str>,
) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let answer = cri.exec_sync(container_id.to_owned(), command.clone(), Duration::ZERO).await;
        let answer = answer.map_err(|e| e.to_string())?;
        if answer.exit_code == 0 {
            return Ok(());
        }
        let output = [&answer.stdout[..], &answer.stderr[..]].concat();
        return Err(format!(
            "command '{}' exited with {}: , message: {:?}",
            command.join(" "),
            answer.exit_code,
            String::from_utf8_lossy(&output)
        ));
    }
    if let Some(get) = &handler.http_get {
        let target = http::target(get, container, pod_ip.unwrap_or_default())?;
        return http::get(&target, "kube-lifecycle/", HOOK_TIMEOUT)
            .await
            .map(drop)
            .map_err(|e| e.to_string());
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0) as u64)).await;
        return Ok(());
    }
    Err("cannot run handler: it names no action that this kubelet knows".to_owned())
}

/// How long an HTTP hook may take; its grace period ends it earlier.
const HOOK_TIMEOUT: Duration = Duration::from_secs(3600);
