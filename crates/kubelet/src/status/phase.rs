//! The phase of a pod from the statuses of its containers (upstream `getPhase`).

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::pod::spec::{self, ContainerKind};

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not all containers have started.
    Pending,
    /// Bound, all containers made, one runs or is about to.
    Running,
    /// All containers ended with 0 and stay so.
    Succeeded,
    /// All containers ended, one not with 0.
    Failed,
}

impl Phase {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
    }

    /// True if nothing comes after it.
    pub fn is_terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::Failed)
    }

    /// Reads `status.phase`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Succeeded, Self::Failed].into_iter().find(|p| p.as_str() == text)
    }
}

/// What a container status says of its run.
enum Run {
    None,
    Running,
    Ended(i32),
    /// Waits after having ended with this code.
    WaitsAfter(i32),
    Waiting,
}

fn run(status: Option<&ContainerStatus>) -> Run {
    let Some(status) = status else { return Run::None };
    let state = status.state.as_ref();
    if state.is_some_and(|s| s.running.is_some()) {
        return Run::Running;
    }
    if let Some(ended) = state.and_then(|s| s.terminated.as_ref()) {
        return Run::Ended(ended.exit_code);
    }
    match status.last_state.as_ref().and_then(|s| s.terminated.as_ref()) {
        Some(ended) => Run::WaitsAfter(ended.exit_code),
        None => Run::Waiting,
    }
}

/// The phase. `stopping` is true once the pod is being ended: its restart policy no longer counts.
pub fn phase(pod: &Pod, init: &[ContainerStatus], app: &[ContainerStatus], stopping: bool) -> Phase {
    let find = |list: &'_ [ContainerStatus], name: &str| list.iter().position(|s| s.name == name);
    let mut pending_init = false;
    let mut failed_for_good = false;
    for container in spec::init_containers(pod) {
        let status = find(init, &container.container.name).map(|i| &init[i]);
        let started = status.and_then(|s| s.started).unwrap_or(false);
        match (container.kind, run(status)) {
            (ContainerKind::Sidecar, Run::Running) => pending_init |= !started,
            // A sidecar that ended starts again, or the pod is over: its app containers decide.
            (ContainerKind::Sidecar, Run::Ended(_) | Run::WaitsAfter(_)) => {}
            (ContainerKind::Sidecar, Run::None | Run::Waiting) => pending_init = true,
            (_, Run::Ended(0) | Run::WaitsAfter(0)) => {}
            (_, Run::Ended(code)) => {
                let over = !spec::restarts_after(pod, &container.container, code);
                failed_for_good |= over || stopping;
                pending_init |= !over;
            }
            _ => pending_init = true,
        }
    }
    if failed_for_good {
        return Phase::Failed;
    }
    let (mut unknown, mut running, mut waiting, mut stopped, mut failed, mut restarts) = (0, 0, 0, 0, 0, 0);
    for container in spec::app_containers(pod) {
        match run(find(app, &container.container.name).map(|i| &app[i])) {
            Run::None => unknown += 1,
            Run::Running => running += 1,
            Run::Waiting => waiting += 1,
            Run::Ended(code) | Run::WaitsAfter(code) => {
                stopped += 1;
                failed += usize::from(code != 0);
                restarts += usize::from(spec::restarts_after(pod, &container.container, code));
            }
        }
    }
    if pending_init && running + stopped == 0 || waiting > 0 || unknown > 0 {
        return Phase::Pending;
    }
    if running > 0 {
        return Phase::Running;
    }
    match (stopped > 0, stopping || restarts == 0, failed) {
        (true, true, 0) => Phase::Succeeded,
        (true, true, _) => Phase::Failed,
        (true, false, _) => Phase::Running,
        (false, ..) => Phase::Pending,
    }
}
