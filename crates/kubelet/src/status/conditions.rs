//! Pod conditions (upstream `pkg/kubelet/status/generate.go`).

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Phase;
use crate::pod::ResizeTrouble;
use crate::pod::spec::{self, ContainerKind};

/// Conditions that the kubelet alone writes.
const OWN: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    RESIZE_PENDING,
    RESIZE_IN_PROGRESS,
];
const RESIZE_PENDING: &str = "PodResizePending";
const RESIZE_IN_PROGRESS: &str = "PodResizeInProgress";
/// A condition that the kubelet and others write.
pub const DISRUPTION: &str = "DisruptionTarget";

/// Puts the conditions of others into `status` as the API has them now (`there`), so that a status computed a moment
/// ago does not undo what they wrote since.
pub fn take_over_foreign(status: &mut PodStatus, there: Option<&PodStatus>) {
    let mut conditions = status.conditions.take().unwrap_or_default();
    let disrupted = conditions.iter().find(|c| c.type_ == DISRUPTION).cloned();
    conditions.retain(|c| OWN.contains(&c.type_.as_str()));
    let foreign = there.iter().flat_map(|t| t.conditions.iter().flatten());
    conditions.extend(foreign.filter(|c| !OWN.contains(&c.type_.as_str())).cloned());
    if let Some(disrupted) = disrupted.filter(|_| !conditions.iter().any(|c| c.type_ == DISRUPTION)) {
        conditions.push(disrupted);
    }
    status.conditions = Some(conditions);
}

/// A pod that is over in the API stays over, whoever said so.
pub fn take_over_end(status: &mut PodStatus, there: Option<&PodStatus>) {
    if let Some(there) = there.filter(|there| is_over(there) && !is_over(status)) {
        status.phase.clone_from(&there.phase);
        status.reason.clone_from(&there.reason);
        status.message.clone_from(&there.message);
    }
}

/// True for a pod that has succeeded or failed.
pub fn is_over(status: &PodStatus) -> bool {
    status.phase.as_deref().and_then(Phase::parse).is_some_and(Phase::is_terminal)
}

/// A condition without its times.
struct Verdict {
    type_: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes(type_: &'static str) -> Self {
        Self { type_, holds: true, reason: None, message: None }
    }

    fn no(type_: &'static str, reason: &'static str, message: impl Into<Option<String>>) -> Self {
        Self { type_, holds: false, reason: Some(reason), message: message.into() }
    }
}

/// What conditions are made from.
pub struct ConditionInputs<'a> {
    pub pod: &'a Pod,
    pub phase: Phase,
    pub init: &'a [ContainerStatus],
    pub app: &'a [ContainerStatus],
    /// What stands in the way of a resize.
    pub resize: Option<&'a ResizeTrouble>,
    /// True while a sandbox with its network stands.
    pub sandbox_ready: bool,
    /// Conditions as the API has them.
    pub before: &'a [PodCondition],
    pub now: &'a Time,
}

/// All conditions: those of the kubelet, then those of others as they were.
pub fn conditions(inputs: &ConditionInputs<'_>) -> Vec<PodCondition> {
    let containers = containers_ready(inputs);
    let ready = ready(inputs, &containers);
    let sandbox = Verdict {
        type_: "PodReadyToStartContainers",
        holds: inputs.sandbox_ready,
        reason: None,
        message: None,
    };
    let resize = inputs.resize.map(|trouble| {
        let (type_, reason, text) = match trouble {
            ResizeTrouble::Infeasible(text) => (RESIZE_PENDING, "Infeasible", text),
            ResizeTrouble::Failed(text) => (RESIZE_IN_PROGRESS, "Error", text),
        };
        Verdict { type_, holds: true, reason: Some(reason), message: Some(text.clone()) }
    });
    let own = [sandbox, initialized(inputs), ready, containers, Verdict::yes("PodScheduled")];
    let own = own.into_iter().chain(resize);
    let mut all: Vec<PodCondition> = own.map(|verdict| condition(inputs, verdict)).collect();
    let others = inputs.before.iter().filter(|c| !OWN.contains(&c.type_.as_str()));
    let others: Vec<PodCondition> = others.cloned().collect();
    all.extend(others);
    all
}

fn condition(inputs: &ConditionInputs<'_>, verdict: Verdict) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let old = inputs.before.iter().find(|c| c.type_ == verdict.type_);
    let since = old.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
    PodCondition {
        type_: verdict.type_.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: Some(since.unwrap_or_else(|| inputs.now.clone())),
        last_probe_time: None,
        observed_generation: inputs.pod.metadata.generation,
    }
}

fn find<'s>(statuses: &'s [ContainerStatus], name: &str) -> Option<&'s ContainerStatus> {
    statuses.iter().find(|s| s.name == name)
}

fn over(type_: &'static str, phase: Phase) -> Option<Verdict> {
    match phase {
        Phase::Succeeded => Some(Verdict::no(type_, "PodCompleted", None)),
        Phase::Failed => Some(Verdict::no(type_, "PodFailed", None)),
        _ => None,
    }
}

fn containers_ready(inputs: &ConditionInputs<'_>) -> Verdict {
    const TYPE: &str = "ContainersReady";
    if let Some(verdict) = over(TYPE, inputs.phase) {
        return verdict;
    }
    let sidecars = spec::init_containers(inputs.pod).filter(|c| c.kind == ContainerKind::Sidecar);
    let sidecars = sidecars.map(|c| (find(inputs.init, &c.container.name), c.container.name.clone()));
    let apps = spec::app_containers(inputs.pod)
        .map(|c| (find(inputs.app, &c.container.name), c.container.name.clone()));
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for (status, name) in sidecars.chain(apps) {
        match status {
            None => unknown.push(name),
            Some(status) if !status.ready => unready.push(name),
            Some(_) => {}
        }
    }
    match messages("unknown", &unknown).into_iter().chain(messages("unready", &unready)).reduce(join) {
        None => Verdict::yes(TYPE),
        message => Verdict::no(TYPE, "ContainersNotReady", message),
    }
}

fn messages(what: &str, names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| format!("containers with {what} status: [{}]", names.join(" ")))
}

fn join(a: String, b: String) -> String {
    format!("{a}, {b}")
}

fn ready(inputs: &ConditionInputs<'_>, containers: &Verdict) -> Verdict {
    const TYPE: &str = "Ready";
    if !containers.holds {
        return Verdict {
            type_: TYPE,
            holds: false,
            reason: containers.reason,
            message: containers.message.clone(),
        };
    }
    let gates = spec::spec(inputs.pod).readiness_gates.iter().flatten();
    let closed =
        gates.filter_map(|gate| match inputs.before.iter().find(|c| c.type_ == gate.condition_type) {
            None => Some(format!(
                "corresponding condition of pod readiness gate {:?} does not exist.",
                gate.condition_type
            )),
            Some(c) if c.status != "True" => Some(format!(
                "the status of pod readiness gate {:?} is not \"True\", but {}",
                gate.condition_type, c.status
            )),
            Some(_) => None,
        });
    match closed.reduce(join) {
        None => Verdict::yes(TYPE),
        message => Verdict::no(TYPE, "ReadinessGatesNotReady", message),
    }
}

fn initialized(inputs: &ConditionInputs<'_>) -> Verdict {
    const TYPE: &str = "Initialized";
    if inputs.phase == Phase::Succeeded {
        return Verdict { type_: TYPE, holds: true, reason: Some("PodCompleted"), message: None };
    }
    // App containers start after initialization alone, whatever is still known of the init containers.
    let app_ran = inputs.app.iter().any(|s| {
        s.state.as_ref().is_some_and(|s| s.running.is_some() || s.terminated.is_some())
            || s.last_state.as_ref().is_some_and(|s| s.terminated.is_some())
    });
    if app_ran {
        return Verdict::yes(TYPE);
    }
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in spec::init_containers(inputs.pod) {
        let name = container.container.name.clone();
        let Some(status) = find(inputs.init, &name) else {
            unknown.push(name);
            continue;
        };
        let done = match container.kind {
            ContainerKind::Sidecar => status.started == Some(true),
            _ => status.ready,
        };
        if !done {
            incomplete.push(name);
        }
    }
    match messages("unknown", &unknown).into_iter().chain(messages("incomplete", &incomplete)).reduce(join) {
        None => Verdict::yes(TYPE),
        message => Verdict::no(TYPE, "ContainersNotInitialized", message),
    }
}
