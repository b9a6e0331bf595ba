//! Doing what a plan says.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use client::EventType;
use k8s_openapi::api::core::v1::Pod;

use super::plan::{Action, Plan, backoff_key};
use super::spec;
use super::start::Start;
use super::worker::{PodWorker, Step};
use super::{kill, sandbox};
use crate::cri::{ContainerState, CriError};
use crate::events::{container_reference, pod_reference};
use crate::status::StartError;

/// Pause after a step that failed for the whole pod, before it is tried again; it doubles (upstream 500 ms to 2 m).
const POD_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(122));

/// Containers that could not be started: why, and when to try again.
#[derive(Debug, Default)]
pub struct Troubles {
    pub errors: HashMap<String, StartError>,
    pub holds: HashMap<String, SystemTime>,
    pub pod_pause: Option<Duration>,
}

impl Troubles {
    /// The next pause of the whole pod.
    pub fn next_pause(&mut self) -> Duration {
        let next = self.pod_pause.map_or(POD_RETRY.0, |pause| (pause * 2).min(POD_RETRY.1));
        self.pod_pause = Some(next);
        next
    }
}

impl PodWorker {
    /// Does the plan's steps. After a step that changes what there is, the rest is planned anew.
    pub(super) async fn act(&mut self, plan: Plan) -> Step {
        let mut changed = false;
        for action in plan.actions {
            let started = self.shared.clock.instant();
            let step = action.clone();
            let done = self.act_one(action, &mut changed).await;
            let took_ms = self.shared.clock.instant().duration_since(started).as_millis() as u64;
            tracing::debug!(pod = %self.uid, ?step, took_ms, "step done");
            match done {
                Ok(()) => {}
                Err(pause) => return Step::Wait(Some(pause)),
            }
        }
        if changed { Step::Again } else { Step::Wait(plan.wake_after) }
    }

    /// Does one step. The error is the pause of the whole pod.
    async fn act_one(&mut self, action: Action, changed: &mut bool) -> Result<(), Duration> {
        let pod = self.pod();
        match action {
            Action::KillPod => {
                let killed =
                    kill::kill_pod(&self.shared, &pod, &self.observed, spec::grace_period_s(&pod)).await;
                self.settle("kill the pod", killed)?;
                *changed = true;
            }
            Action::CreateSandbox { attempt } => {
                self.network_is_ready(&pod)?;
                self.prepare_volumes(&pod).await?;
                if attempt > 0 {
                    let text = "Pod sandbox changed, it will be killed and re-created.";
                    self.shared.events.event_at(
                        pod_reference(&pod),
                        EventType::Normal,
                        "SandboxChanged",
                        text,
                    );
                }
                if sandbox::create(&self.shared, &pod, attempt).await.is_err() {
                    return Err(self.troubles.next_pause());
                }
                self.troubles.pod_pause = None;
                self.observe().await?;
                self.write_status(false);
                *changed = true;
            }
            Action::Kill { id, name, cause } => {
                let record = self.observed.containers.iter().find(|c| c.id == id).cloned();
                let Some(record) = record else { return Ok(()) };
                let (message, grace) = kill::kill_reason(&pod, &record, cause);
                let grace = grace.unwrap_or_else(|| spec::grace_period_s(&pod));
                let killed = kill::kill_container(&self.shared, &pod, &record, grace, message).await;
                self.settle(&format!("kill container {name}"), killed)?;
                *changed = true;
            }
            Action::Start { name, restart_count, .. } => {
                self.prepare_volumes(&pod).await?;
                self.start(&name, restart_count).await;
                *changed = true;
            }
            Action::BackOff { name, pause } => self.back_off(&name, pause, changed),
        }
        Ok(())
    }

    /// A pod with a network of its own waits for the node's.
    fn network_is_ready(&mut self, pod: &Pod) -> Result<(), Duration> {
        let problem =
            self.shared.runtime.lock().not_ready.iter().find(|p| p.contains("NetworkReady")).cloned();
        let Some(problem) = problem.filter(|_| !spec::host_network(pod)) else { return Ok(()) };
        let text = format!("network is not ready: {problem}");
        self.shared.events.event_at(pod_reference(pod), EventType::Warning, "NetworkNotReady", text);
        Err(self.troubles.next_pause())
    }

    fn settle(&mut self, what: &str, result: Result<(), CriError>) -> Result<(), Duration> {
        result.map_err(|error| {
            let pod = self.pod();
            tracing::warn!(pod = spec::described(&pod), %error, "cannot {what}");
            let text = format!("error killing pod: {error}");
            self.shared.events.event_at(pod_reference(&pod), EventType::Warning, "FailedKillPod", text);
            self.troubles.next_pause()
        })
    }

    async fn start(&mut self, name: &str, restart_count: u32) {
        let pod = self.pod();
        let Some(spec) = spec::find_container(&pod, name) else { return };
        let now = self.shared.clock.now();
        if let Some(ended) = self.observed.container(name).filter(|c| c.state == ContainerState::Exited) {
            self.backoffs.next(&backoff_key(&spec.container), ended.finished_at);
        }
        let restart_count = restart_count.max(self.logs_of(name));
        let start = Start {
            shared: &self.shared,
            pod: &pod,
            spec: &spec,
            restart_count,
            observed: &self.observed,
            volumes: &self.volumes,
        };
        match start.run().await {
            Ok(()) => {
                self.troubles.errors.remove(name);
                self.troubles.holds.remove(name);
            }
            Err(failed) => {
                tracing::info!(
                    pod = spec::described(&pod),
                    container = name,
                    reason = failed.error.reason,
                    detail = failed.error.message,
                    "container not started"
                );
                self.troubles.errors.insert(name.to_owned(), failed.error);
                self.troubles.holds.insert(name.to_owned(), now + failed.retry_after);
            }
        }
    }

    /// One more than the highest numbered log of the container: a count that was lost with its records goes on.
    fn logs_of(&self, name: &str) -> u32 {
        let pod = self.pod();
        let folder =
            crate::container::sandbox::log_directory(&self.shared.config.pod_logs_dir, &pod).join(name);
        let numbers = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.split('.').next()?.parse::<u32>().ok());
        numbers.max().map_or(0, |highest| highest + 1)
    }

    fn back_off(&mut self, name: &str, pause: Duration, changed: &mut bool) {
        let pod = self.pod();
        let Some(spec) = spec::find_container(&pod, name) else { return };
        let message = format!(
            "back-off {} restarting failed container={name} pod={}",
            crate::images::go_duration(pause),
            spec::described(&pod)
        );
        let error = StartError { reason: "CrashLoopBackOff".to_owned(), message };
        if self.troubles.errors.insert(name.to_owned(), error.clone()).as_ref() == Some(&error) {
            return;
        }
        let text = format!("Back-off restarting failed container {name} in pod {}", spec::described(&pod));
        let about = container_reference(&pod, &spec.field_path());
        self.shared.events.event_at(about, EventType::Warning, "BackOff", text);
        *changed = true;
    }
}
