//! Container statuses in the API's words (upstream `convertToAPIContainerStatuses`).

use std::time::SystemTime;

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, LinuxContainerUser, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::compute::StatusInputs;
use crate::cri::{ContainerRecord, ContainerState as Recorded};
use crate::pod::spec::{self, ContainerKind, ContainerSpec};
use crate::probes::Verdict;

const UNKNOWN_REASON: &str = "ContainerStatusUnknown";
const UNKNOWN_MESSAGE: &str = "The container could not be located when the pod was terminated";
const DELETED_MESSAGE: &str =
    "The container could not be located when the pod was deleted.  The container used to be Running";
/// The exit code of a container whose end nobody saw (128 + SIGKILL).
const UNKNOWN_EXIT_CODE: i32 = 137;

/// The statuses of the containers in one list of the pod, in its order.
pub fn statuses<'a>(
    inputs: &StatusInputs<'_>,
    containers: impl Iterator<Item = ContainerSpec<'a>>,
) -> Vec<ContainerStatus> {
    containers.map(|container| status(inputs, &container)).collect()
}

fn status(inputs: &StatusInputs<'_>, spec: &ContainerSpec<'_>) -> ContainerStatus {
    let container = &spec.container;
    let old = inputs.base.and_then(|base| old_status(base, &container.name));
    let mut records = inputs.observed.all_of(&container.name);
    let newest = records.next();
    let previous = records.next();
    let mut status = match newest {
        Some(record) => from_record(inputs, spec, record),
        None => without_record(inputs, spec, old),
    };
    if let (Some(_), Some(previous)) = (newest, previous) {
        status.last_state = Some(state(inputs, previous));
    } else if newest.is_some() {
        status.last_state =
            old.filter(|o| o.restart_count == status.restart_count).and_then(|o| o.last_state.clone());
    }
    apply_start_error(inputs, spec, newest, &mut status);
    if inputs.stopped {
        end_for_sure(&mut status, newest);
    }
    status.last_state.get_or_insert_with(ContainerState::default);
    status
}

fn old_status<'b>(base: &'b PodStatus, name: &str) -> Option<&'b ContainerStatus> {
    let lists = [&base.init_container_statuses, &base.container_statuses, &base.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|s| s.name == name)
}

fn from_record(
    inputs: &StatusInputs<'_>,
    spec: &ContainerSpec<'_>,
    record: &ContainerRecord,
) -> ContainerStatus {
    let container = &spec.container;
    let running = record.state == Recorded::Running;
    let results = inputs.probes.get(&record.id).copied().unwrap_or_default();
    let started = running && (container.startup_probe.is_none() || results.startup == Some(Verdict::Success));
    let probe_ready = container.readiness_probe.is_none() || results.readiness == Some(Verdict::Success);
    let ready = match spec.kind {
        ContainerKind::Init => record.state == Recorded::Exited && record.exit_code == 0,
        ContainerKind::Ephemeral => false,
        ContainerKind::Sidecar | ContainerKind::App => started && probe_ready,
    };
    // What it was made with counts, not what the pod has been changed to since.
    let made_with = record.meta.resources.as_deref().and_then(|json| serde_json::from_str(json).ok());
    let resources = made_with.or_else(|| container.resources.clone()).filter(|_| running);
    ContainerStatus {
        name: container.name.clone(),
        image: record.image.clone(),
        image_id: record.image_ref.clone(),
        container_id: Some(container_id(inputs, record)),
        restart_count: record.meta.restart_count as i32,
        ready,
        started: (spec.kind != ContainerKind::Ephemeral).then_some(started),
        state: Some(state(inputs, record)),
        allocated_resources: resources.as_ref().and_then(|r| r.requests.clone()),
        resources: resources.or_else(|| running.then(Default::default)),
        volume_mounts: volume_mounts(spec),
        user: record.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: *uid,
                gid: *gid,
                supplemental_groups: Some(groups.clone()),
            }),
        }),
        ..ContainerStatus::default()
    }
}

fn volume_mounts(spec: &ContainerSpec<'_>) -> Option<Vec<VolumeMountStatus>> {
    let mounts = spec.container.volume_mounts.as_ref()?;
    let mounts = mounts.iter().map(|mount| {
        let read_only = mount.read_only.unwrap_or(false);
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only.then(|| {
                // Asked for or not, only a runtime that says so mounts recursively read-only.
                mount
                    .recursive_read_only
                    .clone()
                    .filter(|r| r == "Enabled")
                    .unwrap_or_else(|| "Disabled".to_owned())
            }),
            ..VolumeMountStatus::default()
        }
    });
    Some(mounts.collect())
}

fn container_id(inputs: &StatusInputs<'_>, record: &ContainerRecord) -> String {
    format!("{}://{}", inputs.runtime_name, record.id)
}

fn timestamp(time: SystemTime) -> Option<Time> {
    (time > SystemTime::UNIX_EPOCH).then(|| Timestamp::try_from(time).ok()).flatten().map(Time)
}

fn state(inputs: &StatusInputs<'_>, record: &ContainerRecord) -> ContainerState {
    match record.state {
        Recorded::Created => waiting("ContainerCreating", None),
        Recorded::Running => ContainerState {
            running: Some(ContainerStateRunning { started_at: timestamp(record.started_at) }),
            ..ContainerState::default()
        },
        Recorded::Exited => {
            ContainerState { terminated: Some(ended(inputs, record)), ..ContainerState::default() }
        }
        Recorded::Unknown => ContainerState {
            terminated: Some(ContainerStateTerminated {
                reason: Some(UNKNOWN_REASON.to_owned()),
                exit_code: UNKNOWN_EXIT_CODE,
                message: Some(UNKNOWN_MESSAGE.to_owned()),
                container_id: Some(container_id(inputs, record)),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        },
    }
}

fn ended(inputs: &StatusInputs<'_>, record: &ContainerRecord) -> ContainerStateTerminated {
    let plain = if record.exit_code == 0 { "Completed" } else { "Error" };
    ContainerStateTerminated {
        exit_code: record.exit_code,
        reason: Some(if record.reason.is_empty() { plain.to_owned() } else { record.reason.clone() }),
        message: Some(record.message.clone()).filter(|m| !m.is_empty()),
        started_at: timestamp(record.started_at),
        finished_at: timestamp(record.finished_at),
        container_id: Some(container_id(inputs, record)),
        signal: None,
    }
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ContainerState::default()
    }
}

/// A container that the runtime does not know: not yet made, or gone.
fn without_record(
    inputs: &StatusInputs<'_>,
    spec: &ContainerSpec<'_>,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let has_init = spec::spec(inputs.pod).init_containers.as_ref().is_some_and(|list| !list.is_empty());
    let reason = match has_init {
        // Upstream's word for init containers in the queue as well, and until the first app container is made.
        true => "PodInitializing",
        false => "ContainerCreating",
    };
    let mut status = ContainerStatus {
        name: spec.container.name.clone(),
        image: spec.container.image.clone().unwrap_or_default(),
        started: (spec.kind != ContainerKind::Ephemeral).then_some(false),
        state: Some(waiting(reason, None)),
        volume_mounts: volume_mounts(spec),
        ..ContainerStatus::default()
    };
    let Some(old) = old else { return status };
    status.restart_count = old.restart_count;
    status.last_state = old.last_state.clone();
    let ended = old.state.as_ref().and_then(|s| s.terminated.as_ref());
    if ended.is_some() {
        // What ended stays told although the runtime has forgotten it.
        status.state = old.state.clone();
        status.image_id = old.image_id.clone();
        status.container_id = old.container_id.clone();
        let finished_well = spec.kind == ContainerKind::Init && ended.is_some_and(|e| e.exit_code == 0);
        status.ready = finished_well;
    } else if old.state.as_ref().is_some_and(|s| s.running.is_some()) {
        status.last_state = Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                reason: Some(UNKNOWN_REASON.to_owned()),
                message: Some(DELETED_MESSAGE.to_owned()),
                exit_code: UNKNOWN_EXIT_CODE,
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        });
        status.image_id = old.image_id.clone();
        status.container_id = old.container_id.clone();
    }
    status
}

/// Says why a container that should run does not.
fn apply_start_error(
    inputs: &StatusInputs<'_>,
    spec: &ContainerSpec<'_>,
    newest: Option<&ContainerRecord>,
    status: &mut ContainerStatus,
) {
    let Some(error) = inputs.errors.get(&spec.container.name) else { return };
    if let Some(record) = newest {
        let over = record.state == Recorded::Exited
            && !spec::restarts_after(inputs.pod, &spec.container, record.exit_code);
        if over
            || record.state == Recorded::Running
            || spec.kind == ContainerKind::Init && record_done(record)
        {
            return;
        }
    }
    if let Some(state) = status.state.take().filter(|s| s.terminated.is_some()) {
        status.last_state = Some(state);
    }
    status.state = Some(waiting(&error.reason, Some(error.message.clone()).filter(|m| !m.is_empty())));
}

fn record_done(record: &ContainerRecord) -> bool {
    record.state == Recorded::Exited && record.exit_code == 0
}

/// Once the pod is over, no container is said to wait or run (upstream `TerminatePod`).
fn end_for_sure(status: &mut ContainerStatus, newest: Option<&ContainerRecord>) {
    status.ready &= status.state.as_ref().is_some_and(|s| s.terminated.is_some());
    status.started = status.started.map(|_| false);
    if status.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
        return;
    }
    let never_started = newest.is_none() && status.container_id.is_none();
    if never_started && status.last_state.as_ref().is_none_or(|s| s.terminated.is_none()) {
        // It never ran: upstream leaves it waiting so that nobody takes it for failed.
        if status.state.as_ref().is_some_and(|s| s.waiting.is_some()) {
            return;
        }
    }
    if let Some(last) = status.last_state.take().filter(|s| s.terminated.is_some()) {
        status.state = Some(last);
        return;
    }
    status.state = Some(ContainerState {
        terminated: Some(ContainerStateTerminated {
            reason: Some(UNKNOWN_REASON.to_owned()),
            message: Some(UNKNOWN_MESSAGE.to_owned()),
            exit_code: UNKNOWN_EXIT_CODE,
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    });
}
