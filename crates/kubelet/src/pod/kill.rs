//! Ending containers and pods: hooks first, then the stop signal, then a kill (upstream `killContainer`).

use std::time::{Duration, Instant};

use client::EventType;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use proto::cri::v1::StopPodSandboxRequest;

use super::plan::KillCause;
use super::spec::{self, ContainerKind};
use crate::container::lifecycle::run_hook;
use crate::cri::{ContainerRecord, ContainerState, CriError, Observed};
use crate::events::container_reference;
use crate::shared::Shared;

/// What is left at least after a hook has used up the time, in seconds (upstream `minimumGracePeriodInSeconds`).
const MIN_GRACE_S: i64 = 2;

/// Ends one container. `message` is for the `Killing` event.
pub async fn kill_container(
    shared: &Shared,
    pod: &Pod,
    record: &ContainerRecord,
    grace_s: i64,
    message: String,
) -> Result<(), CriError> {
    let found = spec::find_container(pod, &record.name);
    let about = container_reference(pod, &found.as_ref().map(|c| c.field_path()).unwrap_or_default());
    shared.events.event_at(about.clone(), EventType::Normal, "Killing", message);
    let mut left_s = grace_s;
    let hook = found.as_ref().and_then(|c| c.container.lifecycle.as_ref()?.pre_stop.clone());
    if let (Some(hook), Some(found), true) =
        (hook, &found, grace_s > 0 && record.state == ContainerState::Running)
    {
        let started = Instant::now();
        let ip = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref());
        let run = run_hook(&shared.cri, &hook, &found.container, &record.id, ip);
        match tokio::time::timeout(Duration::from_secs(grace_s as u64), run).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    pod = spec::described(pod),
                    container = record.name,
                    error,
                    "preStop hook failed"
                );
                shared.events.event_at(about, EventType::Warning, "FailedPreStopHook", "PreStopHook failed");
            }
            Err(_) => {
                tracing::warn!(
                    pod = spec::described(pod),
                    container = record.name,
                    "preStop hook took all the time"
                );
            }
        }
        left_s -= started.elapsed().as_secs() as i64;
        left_s = left_s.max(MIN_GRACE_S);
    }
    match shared.cri.stop_container(record.id.clone(), left_s).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Ends all containers of the pod, sidecars after the others in reverse order, then its sandboxes. Each container has
/// `grace_s` seconds; sidecars have what is left of it.
pub async fn kill_pod(shared: &Shared, pod: &Pod, observed: &Observed, grace_s: i64) -> Result<(), CriError> {
    let sidecars: Vec<String> = spec::init_containers(pod)
        .filter(|c| c.kind == ContainerKind::Sidecar)
        .map(|c| c.container.name.clone())
        .collect();
    let is_sidecar = |record: &ContainerRecord| sidecars.contains(&record.name);
    let started = Instant::now();
    let stops = observed.running().filter(|r| !is_sidecar(r)).map(|record| {
        let message = format!("Stopping container {}", record.name);
        kill_container(shared, pod, record, grace_s, message)
    });
    let mut result = Ok(());
    for ended in join_all(stops).await {
        result = result.and(ended);
    }
    for name in sidecars.iter().rev() {
        for record in observed.running().filter(|r| r.name == *name) {
            let left_s = (grace_s - started.elapsed().as_secs() as i64).max(MIN_GRACE_S.min(grace_s));
            let message = format!("Stopping container {name}");
            result = result.and(kill_container(shared, pod, record, left_s, message).await);
        }
    }
    result?;
    for sandbox in observed.sandboxes.iter().filter(|s| s.ready) {
        let request = StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
        match shared.cri.stop_pod_sandbox(request).await {
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// The message of a `Killing` event, and the grace period a probe asks for.
pub fn kill_reason(pod: &Pod, record: &ContainerRecord, cause: KillCause) -> (String, Option<i64>) {
    let name = &record.name;
    let found = spec::find_container(pod, name);
    let kind = match found.as_ref().map(|c| c.kind) {
        Some(ContainerKind::Init | ContainerKind::Sidecar) => "Init container",
        _ => "Container",
    };
    let restarts = found.as_ref().is_some_and(|c| spec::restarts_on_failure(pod, &c.container));
    let probe = |pick: fn(&k8s_openapi::api::core::v1::Container) -> Option<i64>| {
        found.as_ref().and_then(|c| pick(&c.container))
    };
    let (what, grace) = match cause {
        KillCause::Changed => ("definition changed", None),
        KillCause::Resized => ("resize requires restart", None),
        KillCause::Unknown => ("is in unknown state, try killing it before restart", None),
        KillCause::Liveness => {
            ("failed liveness probe", probe(|c| c.liveness_probe.as_ref()?.termination_grace_period_seconds))
        }
        KillCause::Startup => {
            ("failed startup probe", probe(|c| c.startup_probe.as_ref()?.termination_grace_period_seconds))
        }
    };
    let tail = if restarts && cause != KillCause::Unknown { ", will be restarted" } else { "" };
    (format!("{kind} {name} {what}{tail}"), grace)
}
