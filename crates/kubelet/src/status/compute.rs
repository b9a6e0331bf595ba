//! The status of a pod from what is observed: a pure function (upstream `generateAPIPodStatus`).

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{HostIP, Pod, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Phase;
use super::conditions::{ConditionInputs, DISRUPTION, conditions};
use super::containers::statuses;
use super::phase::phase;
use crate::cri::Observed;
use crate::pod::{ResizeTrouble, resources, spec};
use crate::probes::ResultMap;

/// Why a container could not be started: its `waiting` state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    /// E.g. `ErrImagePull`.
    pub reason: String,
    /// For the user.
    pub message: String,
}

/// Why the kubelet ended a pod that had not ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// `status.reason`, e.g. `Evicted`.
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// True adds the `DisruptionTarget` condition (`TerminationByKubelet`).
    pub disruption: bool,
}

/// What a status is made from.
#[derive(Debug)]
pub struct StatusInputs<'a> {
    /// The pod as it is asked for.
    pub pod: &'a Pod,
    /// The status that the API has.
    pub base: Option<&'a PodStatus>,
    /// What the runtime says.
    pub observed: &'a Observed,
    /// What probes say.
    pub probes: &'a ResultMap,
    /// Containers that could not be started.
    pub errors: &'a HashMap<String, StartError>,
    /// What stands in the way of a resize.
    pub resize: Option<&'a ResizeTrouble>,
    /// The node's addresses.
    pub host_ips: &'a [String],
    /// The scheme of container ids, e.g. `containerd`.
    pub runtime_name: &'a str,
    /// Set if the kubelet ended the pod.
    pub ending: Option<&'a Ending>,
    /// True once the pod is being ended.
    pub stopping: bool,
    /// True once nothing of it runs any more.
    pub stopped: bool,
    /// The time.
    pub now: Time,
}

/// Computes the status.
pub fn compute(inputs: &StatusInputs<'_>) -> PodStatus {
    let pod = inputs.pod;
    if never_taken(inputs) {
        return refused(inputs);
    }
    let init = statuses(inputs, spec::init_containers(pod));
    let app = statuses(inputs, spec::app_containers(pod));
    let ephemeral = statuses(inputs, spec::ephemeral_containers(pod));
    let phase = settled_phase(inputs, phase(pod, &init, &app, inputs.stopping));
    let before = inputs.base.and_then(|b| b.conditions.as_deref()).unwrap_or_default();
    let sandbox_ready =
        inputs.observed.ready_sandbox().is_some_and(|s| !s.ips.is_empty() || spec::host_network(pod));
    let mut conditions = conditions(&ConditionInputs {
        pod,
        phase,
        init: &init,
        app: &app,
        resize: inputs.resize,
        sandbox_ready,
        before,
        now: &inputs.now,
    });
    if let Some(ending) = inputs.ending.filter(|e| e.disruption) {
        disrupt(inputs, &mut conditions, before, ending);
    }
    let ips = pod_ips(inputs, sandbox_ready);
    let keep = |list: Vec<_>| (!list.is_empty()).then_some(list);
    PodStatus {
        phase: Some(phase.as_str().to_owned()),
        conditions: Some(conditions),
        reason: inputs.ending.map(|e| e.reason.clone()).or_else(|| inputs.base?.reason.clone()),
        message: inputs.ending.map(|e| e.message.clone()).or_else(|| inputs.base?.message.clone()),
        host_ip: inputs.host_ips.first().cloned(),
        host_ips: Some(inputs.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        start_time: inputs.base.and_then(|b| b.start_time.clone()).or_else(|| Some(inputs.now.clone())),
        qos_class: Some(resources::qos_class(pod).as_str().to_owned()),
        init_container_statuses: keep(init),
        container_statuses: keep(app),
        ephemeral_container_statuses: keep(ephemeral),
        observed_generation: pod.metadata.generation,
        // What others write.
        nominated_node_name: inputs.base.and_then(|b| b.nominated_node_name.clone()),
        resource_claim_statuses: inputs.base.and_then(|b| b.resource_claim_statuses.clone()),
        extended_resource_claim_status: inputs.base.and_then(|b| b.extended_resource_claim_status.clone()),
        ..PodStatus::default()
    }
}

/// True for a pod that the node refused: it never had a sandbox or a container.
fn never_taken(inputs: &StatusInputs<'_>) -> bool {
    let nothing = inputs.observed.sandboxes.is_empty() && inputs.observed.containers.is_empty();
    let told = inputs.base.is_some_and(|b| b.container_statuses.is_some());
    inputs.ending.is_some() && nothing && !told
}

fn refused(inputs: &StatusInputs<'_>) -> PodStatus {
    let mut status = inputs.base.cloned().unwrap_or_default();
    status.phase = Some(Phase::Failed.as_str().to_owned());
    status.reason = inputs.ending.map(|e| e.reason.clone());
    status.message = inputs.ending.map(|e| e.message.clone());
    status.qos_class = Some(resources::qos_class(inputs.pod).as_str().to_owned());
    status.observed_generation = inputs.pod.metadata.generation;
    status.start_time.get_or_insert_with(|| inputs.now.clone());
    status
}

/// A pod that is over stays over, and one that the kubelet ended has failed.
fn settled_phase(inputs: &StatusInputs<'_>, computed: Phase) -> Phase {
    let before = inputs.base.and_then(|b| b.phase.as_deref()).and_then(Phase::parse);
    match before {
        Some(over) if over.is_terminal() => over,
        _ if inputs.ending.is_some() => Phase::Failed,
        _ if inputs.stopped && !computed.is_terminal() => Phase::Failed,
        // Containers may still be stopping: the phase is final only when nothing runs.
        _ if computed.is_terminal() && inputs.observed.running().next().is_some() => Phase::Running,
        _ => computed,
    }
}

fn pod_ips(inputs: &StatusInputs<'_>, sandbox_ready: bool) -> Vec<String> {
    if spec::host_network(inputs.pod) {
        return inputs.host_ips.to_vec();
    }
    if sandbox_ready {
        return inputs.observed.ready_sandbox().map(|s| s.ips.clone()).unwrap_or_default();
    }
    // The last address stays told while the sandbox is gone.
    let before = inputs.base.and_then(|b| b.pod_ips.as_deref()).unwrap_or_default();
    before.iter().map(|ip| ip.ip.clone()).collect()
}

fn disrupt(
    inputs: &StatusInputs<'_>,
    conditions: &mut Vec<PodCondition>,
    before: &[PodCondition],
    ending: &Ending,
) {
    let old = before.iter().find(|c| c.type_ == DISRUPTION && c.status == "True");
    conditions.retain(|c| c.type_ != DISRUPTION);
    conditions.push(PodCondition {
        type_: DISRUPTION.to_owned(),
        status: "True".to_owned(),
        reason: Some("TerminationByKubelet".to_owned()),
        message: Some(ending.message.clone()),
        last_transition_time: Some(
            old.and_then(|c| c.last_transition_time.clone()).unwrap_or_else(|| inputs.now.clone()),
        ),
        last_probe_time: None,
        observed_generation: inputs.pod.metadata.generation,
    });
}
