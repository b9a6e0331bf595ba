//! What to do so that the runtime has what a pod asks for (upstream `computePodActions`): a pure function.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Container, Pod};

use super::backoff::Backoffs;
use super::spec::{self, ContainerKind, ContainerSpec};
use crate::cri::labels::definition_hash;
use crate::cri::{ContainerRecord, ContainerState, Observed};
use crate::probes::{ProbeResults, ResultMap, Verdict};

/// Why a running container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillCause {
    /// Its image has changed.
    Changed,
    /// It gets other resources and wants to be restarted for that.
    Resized,
    /// It does not live.
    Liveness,
    /// It did not come up.
    Startup,
    /// The runtime does not know its state.
    Unknown,
}

/// One step. Steps are done in order; what depends on their results is planned anew after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Stop all containers and the sandbox.
    KillPod,
    /// Make a sandbox, the `attempt`-th.
    CreateSandbox {
        /// Counted from 0.
        attempt: u32,
    },
    /// Stop a container.
    Kill {
        /// The runtime's id.
        id: String,
        /// Its name.
        name: String,
        /// Why.
        cause: KillCause,
    },
    /// Pull the image, make and start a container.
    Start {
        /// Its name.
        name: String,
        /// Its role.
        kind: ContainerKind,
        /// How often it was started before.
        restart_count: u32,
    },
    /// Leave a crashing container down for a while.
    BackOff {
        /// Its name.
        name: String,
        /// The whole pause, as told to users.
        pause: Duration,
    },
}

/// What to do, and when to look again although nothing happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Steps in order.
    pub actions: Vec<Action>,
    /// Time until a pause ends.
    pub wake_after: Option<Duration>,
}

/// What a plan is made from.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// What is asked for.
    pub pod: &'a Pod,
    /// What there is.
    pub observed: &'a Observed,
    /// What probes say.
    pub probes: &'a ResultMap,
    /// Pauses of crashing containers, by [`backoff_key`].
    pub backoffs: &'a Backoffs,
    /// Containers that could not be started, and when to try again.
    pub holds: &'a HashMap<String, SystemTime>,
    /// The time.
    pub now: SystemTime,
}

/// The key of a container's pause: another image begins anew.
pub fn backoff_key(container: &Container) -> String {
    format!("{}/{}", container.name, definition_hash(container))
}

/// Plans the next steps of a pod that is to run.
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let mut planner = Planner { inputs, plan: Plan::default() };
    match planner.sandbox_needed() {
        Some(attempt) => planner.plan_sandbox(attempt),
        None => planner.plan_containers(),
    }
    planner.plan
}

struct Planner<'a> {
    inputs: &'a Inputs<'a>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    /// The attempt of the sandbox to make, if one must be made.
    fn sandbox_needed(&self) -> Option<u32> {
        let sandboxes = &self.inputs.observed.sandboxes;
        let Some(latest) = sandboxes.first() else { return Some(0) };
        let ready = sandboxes.iter().filter(|s| s.ready).count();
        let without_address = latest.ips.is_empty() && !spec::host_network(self.inputs.pod);
        (ready != 1 || !latest.ready || without_address).then_some(latest.attempt + 1)
    }

    fn plan_sandbox(&mut self, attempt: u32) {
        let Inputs { pod, observed, .. } = *self.inputs;
        if !observed.is_stopped() {
            self.plan.actions.push(Action::KillPod);
        }
        let ran_before = attempt != 0 && !observed.containers.is_empty();
        let mut starts: Vec<ContainerSpec<'_>> = spec::app_containers(pod)
            .filter(|c| !ran_before || self.starts_in_new_sandbox(&c.container))
            .collect();
        let app_ran = spec::app_containers(pod).any(|c| observed.container(&c.container.name).is_some());
        if starts.is_empty() && app_ran {
            return;
        }
        if let Some(first) = spec::init_containers(pod).next() {
            if ran_before && !app_ran && !spec::restarts_on_failure(pod, &first.container) {
                return;
            }
            starts = vec![first];
        }
        let before = self.plan.actions.len();
        for container in &starts {
            self.start(container);
        }
        // Without anything to start now, the sandbox waits too.
        if self.plan.actions[before..].iter().any(|a| matches!(a, Action::Start { .. })) {
            self.plan.actions.insert(before, Action::CreateSandbox { attempt });
        }
    }

    /// Containers whose sandbox died start again unless their policy lets them rest.
    fn starts_in_new_sandbox(&self, container: &Container) -> bool {
        let pod = self.inputs.pod;
        match self.inputs.observed.container(&container.name) {
            Some(c) if c.state == ContainerState::Exited => spec::restarts_after(pod, container, c.exit_code),
            _ => spec::restarts_on_failure(pod, container),
        }
    }

    fn plan_containers(&mut self) {
        let Inputs { pod, observed, .. } = *self.inputs;
        for container in spec::ephemeral_containers(pod) {
            if observed.container(&container.container.name).is_none() {
                self.start(&container);
            }
        }
        if !self.plan_init_containers() {
            return;
        }
        let mut busy = 0;
        for container in spec::app_containers(pod) {
            busy += usize::from(self.plan_app_container(&container));
        }
        if busy == 0 && !observed.is_stopped() {
            self.plan.actions = vec![Action::KillPod];
        }
    }

    /// True if the container runs, or is to run again.
    fn plan_app_container(&mut self, app: &ContainerSpec<'_>) -> bool {
        let Inputs { pod, observed, .. } = *self.inputs;
        let container = &app.container;
        let Some(record) = observed.container(&container.name) else {
            self.start(app);
            return true;
        };
        match record.state {
            ContainerState::Running => {
                let results = self.probes_of(record);
                let cause = if record.meta.hash != definition_hash(container) {
                    Some(KillCause::Changed)
                } else if results.liveness == Some(Verdict::Failure) {
                    Some(KillCause::Liveness)
                } else {
                    (results.startup == Some(Verdict::Failure)).then_some(KillCause::Startup)
                };
                if let Some(cause) = cause {
                    self.kill(record, cause);
                }
                true
            }
            ContainerState::Unknown => {
                self.kill(record, KillCause::Unknown);
                true
            }
            ContainerState::Created => {
                self.start(app);
                true
            }
            ContainerState::Exited if spec::restarts_after(pod, container, record.exit_code) => {
                self.start(app);
                true
            }
            ContainerState::Exited => false,
        }
    }

    /// True if the app containers may run. Looks from the last init container to the first, since records of finished
    /// ones may be gone.
    fn plan_init_containers(&mut self) -> bool {
        let Inputs { pod, observed, .. } = *self.inputs;
        let init: Vec<ContainerSpec<'_>> = spec::init_containers(pod).collect();
        if init.is_empty() {
            return true;
        }
        let app_started = app_started(pod, observed);
        let mut initialized = app_started;
        let mut seen_later = app_started;
        let mut steps = InitSteps::default();
        for (index, container) in init.iter().enumerate().rev() {
            let Some(record) = observed.container(&container.container.name) else {
                if seen_later && container.kind == ContainerKind::Sidecar {
                    steps.start.push(index);
                }
                continue;
            };
            if seen_later && container.kind != ContainerKind::Sidecar {
                continue;
            }
            let is_last = index + 1 == init.len();
            match self.init_step(container, record, &mut steps, index) {
                InitStep::Done if is_last => initialized = true,
                InitStep::Done if !seen_later => steps.start.push(index + 1),
                InitStep::Done | InitStep::Wait => {}
                InitStep::Failed => {
                    if !observed.is_stopped() {
                        self.plan.actions.push(Action::KillPod);
                    }
                    return false;
                }
            }
            seen_later = true;
        }
        if !seen_later {
            steps.start.push(0);
        }
        for (record, cause) in steps.kill {
            self.kill(record, cause);
        }
        steps.start.sort_unstable();
        for index in steps.start {
            self.start(&init[index]);
        }
        initialized
    }

    fn init_step<'r>(
        &self,
        container: &ContainerSpec<'_>,
        record: &'r ContainerRecord,
        steps: &mut InitSteps<'r>,
        index: usize,
    ) -> InitStep {
        let sidecar = container.kind == ContainerKind::Sidecar;
        match record.state {
            ContainerState::Running if sidecar => self.sidecar_step(&container.container, record, steps),
            ContainerState::Running => InitStep::Wait,
            ContainerState::Unknown => {
                steps.kill.push((record, KillCause::Unknown));
                InitStep::Wait
            }
            ContainerState::Exited if !sidecar && record.exit_code == 0 => InitStep::Done,
            ContainerState::Exited
                if !sidecar
                    && !spec::restarts_after(self.inputs.pod, &container.container, record.exit_code) =>
            {
                InitStep::Failed
            }
            ContainerState::Exited | ContainerState::Created => {
                steps.start.push(index);
                InitStep::Wait
            }
        }
    }

    fn sidecar_step<'r>(
        &self,
        container: &Container,
        record: &'r ContainerRecord,
        steps: &mut InitSteps<'r>,
    ) -> InitStep {
        let results = self.probes_of(record);
        if results.startup == Some(Verdict::Failure) {
            steps.kill.push((record, KillCause::Startup));
            return InitStep::Wait;
        }
        if container.startup_probe.is_some() && results.startup.is_none() {
            return InitStep::Wait;
        }
        if record.meta.hash != definition_hash(container) {
            steps.kill.push((record, KillCause::Changed));
        } else if results.liveness == Some(Verdict::Failure) {
            steps.kill.push((record, KillCause::Liveness));
        }
        InitStep::Done
    }

    fn probes_of(&self, record: &ContainerRecord) -> ProbeResults {
        self.inputs.probes.get(&record.id).copied().unwrap_or_default()
    }

    fn kill(&mut self, record: &ContainerRecord, cause: KillCause) {
        self.plan.actions.push(Action::Kill { id: record.id.clone(), name: record.name.clone(), cause });
    }

    /// Starts a container unless it has to wait.
    fn start(&mut self, container: &ContainerSpec<'_>) {
        let Inputs { pod, observed, backoffs, holds, now, .. } = *self.inputs;
        let name = &container.container.name;
        let record = observed.container(name);
        if let Some(left) =
            holds.get(name).and_then(|until| until.duration_since(now).ok()).filter(|d| !d.is_zero())
        {
            return self.wake_after(left);
        }
        if let Some(record) = record.filter(|r| r.state == ContainerState::Exited) {
            let key = backoff_key(&container.container);
            if let Some((pause, left)) = backoffs.remaining(&key, record.finished_at, now) {
                self.plan.actions.push(Action::BackOff { name: name.clone(), pause });
                return self.wake_after(left);
            }
        }
        let restart_count = match record {
            Some(record) => record.meta.restart_count + 1,
            None => restarts_in_status(pod, name),
        };
        self.plan.actions.push(Action::Start { name: name.clone(), kind: container.kind, restart_count });
    }

    fn wake_after(&mut self, left: Duration) {
        let wake = self.plan.wake_after.get_or_insert(left);
        *wake = left.min(*wake);
    }
}

#[derive(Default)]
struct InitSteps<'r> {
    start: Vec<usize>,
    kill: Vec<(&'r ContainerRecord, KillCause)>,
}

enum InitStep {
    /// It has done its part; the next may start.
    Done,
    /// Not yet.
    Wait,
    /// It failed and stays failed.
    Failed,
}

/// True if an app container was started in the newest sandbox: initialization is over.
fn app_started(pod: &Pod, observed: &Observed) -> bool {
    let Some(sandbox) = observed.sandboxes.first() else { return false };
    spec::app_containers(pod).any(|c| {
        observed.all_of(&c.container.name).any(|r| {
            r.sandbox_id == sandbox.id && matches!(r.state, ContainerState::Running | ContainerState::Exited)
        })
    })
}

/// The next restart count of a container whose record the runtime no longer has, from the pod's status.
fn restarts_in_status(pod: &Pod, name: &str) -> u32 {
    let Some(status) = &pod.status else { return 0 };
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let known = lists.into_iter().flatten().flatten().find(|s| s.name == name);
    known.filter(|s| s.container_id.is_some()).map_or(0, |s| s.restart_count.max(0) as u32 + 1)
}
