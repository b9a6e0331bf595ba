//! What the runtime says of a pod's sandboxes and containers.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use futures::future::try_join_all;
use proto::cri::v1;

use super::labels::{self, ContainerMeta};
use super::{Cri, CriError};
use crate::pod::PodUid;

/// A sandbox of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxRecord {
    /// The runtime's id.
    pub id: String,
    /// The how manieth sandbox of its pod, from 0.
    pub attempt: u32,
    /// True while it holds its namespaces.
    pub ready: bool,
    /// When it was made.
    pub created_at: SystemTime,
    /// Its addresses, the primary one first; empty with the node's network.
    pub ips: Vec<String>,
}

/// The state of a container in the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Runs.
    Running,
    /// Has ended.
    Exited,
    /// The runtime does not know.
    Unknown,
}

/// A container of a pod, running or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerRecord {
    /// The runtime's id.
    pub id: String,
    /// The container's name in the pod.
    pub name: String,
    /// The sandbox that it belongs to.
    pub sandbox_id: String,
    /// Its state.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: SystemTime,
    /// When it was started.
    pub started_at: SystemTime,
    /// When it ended.
    pub finished_at: SystemTime,
    /// What it ended with.
    pub exit_code: i32,
    /// The image as it was asked for.
    pub image: String,
    /// The image as the runtime identifies it.
    pub image_ref: String,
    /// E.g. `OOMKilled`.
    pub reason: String,
    /// The runtime's words.
    pub message: String,
    /// What the kubelet noted on it.
    pub meta: ContainerMeta,
    /// Its log file on the node.
    pub log_path: String,
    /// The file on the node that holds its last words.
    pub message_file: Option<String>,
    /// Uid, gid and further groups of its first process, as far as the runtime says.
    pub user: Option<(i64, i64, Vec<i64>)>,
}

/// A pod as the runtime knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Newest first.
    pub sandboxes: Vec<SandboxRecord>,
    /// Newest first.
    pub containers: Vec<ContainerRecord>,
}

impl Observed {
    /// The newest sandbox, if it holds its namespaces.
    pub fn ready_sandbox(&self) -> Option<&SandboxRecord> {
        self.sandboxes.first().filter(|s| s.ready)
    }

    /// The newest container called `name`.
    pub fn container(&self, name: &str) -> Option<&ContainerRecord> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// Containers called `name`, newest first.
    pub fn all_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a ContainerRecord> {
        self.containers.iter().filter(move |c| c.name == name)
    }

    /// Containers that run or may run.
    pub fn running(&self) -> impl Iterator<Item = &ContainerRecord> {
        self.containers
            .iter()
            .filter(|c| matches!(c.state, ContainerState::Running | ContainerState::Unknown))
    }

    /// True if nothing of the pod runs.
    pub fn is_stopped(&self) -> bool {
        self.running().next().is_none() && self.sandboxes.iter().all(|s| !s.ready)
    }
}

/// A pod found in the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodRecord {
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// Ids of its sandboxes, and whether each is ready.
    pub sandboxes: Vec<(String, bool)>,
    /// Ids of its containers, with their states.
    pub containers: Vec<(String, ContainerState)>,
}

fn time(nanos: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos.max(0) as u64)
}

fn state(state: i32) -> ContainerState {
    match v1::ContainerState::try_from(state) {
        Ok(v1::ContainerState::ContainerCreated) => ContainerState::Created,
        Ok(v1::ContainerState::ContainerRunning) => ContainerState::Running,
        Ok(v1::ContainerState::ContainerExited) => ContainerState::Exited,
        _ => ContainerState::Unknown,
    }
}

fn is_ready(state: i32) -> bool {
    state == v1::PodSandboxState::SandboxReady as i32
}

/// Every pod that the runtime knows.
pub async fn list_pods(cri: &Cri) -> Result<HashMap<PodUid, PodRecord>, CriError> {
    let (sandboxes, containers) = futures::future::try_join(
        cri.list_pod_sandbox(v1::ListPodSandboxRequest::default()),
        cri.list_containers(v1::ListContainersRequest::default()),
    )
    .await?;
    let mut pods: HashMap<PodUid, PodRecord> = HashMap::new();
    for sandbox in sandboxes.items {
        let Some(uid) = labels::pod_uid(&sandbox.labels) else { continue };
        let pod = pods.entry(uid).or_default();
        if let Some(meta) = sandbox.metadata {
            (pod.name, pod.namespace) = (meta.name, meta.namespace);
        }
        pod.sandboxes.push((sandbox.id, is_ready(sandbox.state)));
    }
    for container in containers.containers {
        let Some(uid) = labels::pod_uid(&container.labels) else { continue };
        pods.entry(uid).or_default().containers.push((container.id, state(container.state)));
    }
    // So that two looks at the same state compare equal.
    for pod in pods.values_mut() {
        pod.sandboxes.sort();
        pod.containers.sort_by(|a, b| a.0.cmp(&b.0));
    }
    Ok(pods)
}

/// Looks at one pod. Containers that had ended in `before` are taken from there: they do not change any more.
pub async fn observe(cri: &Cri, uid: &PodUid, before: &Observed) -> Result<Observed, CriError> {
    let selector = HashMap::from([(labels::POD_UID.to_owned(), uid.to_string())]);
    let sandbox_filter = v1::PodSandboxFilter { label_selector: selector.clone(), ..Default::default() };
    let container_filter = v1::ContainerFilter { label_selector: selector, ..Default::default() };
    let (mut sandboxes, containers) = futures::future::try_join(
        cri.list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(sandbox_filter) }),
        cri.list_containers(v1::ListContainersRequest { filter: Some(container_filter) }),
    )
    .await?;
    sandboxes
        .items
        .sort_by_key(|s| std::cmp::Reverse((s.created_at, s.metadata.as_ref().map_or(0, |m| m.attempt))));
    let sandboxes = sandboxes.items.into_iter().map(|s| sandbox(cri, s));
    let containers = containers.containers.into_iter().map(|c| container(cri, c, before));
    let (sandboxes, containers) =
        futures::future::try_join(try_join_all(sandboxes), try_join_all(containers)).await?;
    let mut containers: Vec<ContainerRecord> = containers.into_iter().flatten().collect();
    containers.sort_by_key(|c| std::cmp::Reverse((c.created_at, c.meta.restart_count)));
    Ok(Observed { sandboxes: sandboxes.into_iter().flatten().collect(), containers })
}

async fn sandbox(cri: &Cri, listed: v1::PodSandbox) -> Result<Option<SandboxRecord>, CriError> {
    let mut record = SandboxRecord {
        attempt: listed.metadata.as_ref().map_or(0, |m| m.attempt),
        ready: is_ready(listed.state),
        created_at: time(listed.created_at),
        ips: Vec::new(),
        id: listed.id,
    };
    if !record.ready {
        return Ok(Some(record));
    }
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: record.id.clone(), verbose: false };
    let status = match cri.pod_sandbox_status(request).await {
        Err(error) if error.is_not_found() => return Ok(None),
        answer => answer?.status.unwrap_or_default(),
    };
    record.ready = is_ready(status.state);
    if let Some(network) = status.network {
        let more = network.additional_ips.into_iter().map(|ip| ip.ip);
        record.ips = std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect();
    }
    Ok(Some(record))
}

async fn container(
    cri: &Cri,
    listed: v1::Container,
    before: &Observed,
) -> Result<Option<ContainerRecord>, CriError> {
    if let Some(known) =
        before.containers.iter().find(|c| c.id == listed.id && c.state == ContainerState::Exited)
    {
        return Ok(Some(known.clone()));
    }
    let request = v1::ContainerStatusRequest { container_id: listed.id.clone(), verbose: false };
    match cri.container_status(request).await {
        Err(error) if error.is_not_found() => Ok(None),
        answer => Ok(answer?.status.map(|status| record(listed.pod_sandbox_id, status))),
    }
}

/// The name that the runtime resolved the image to; one that knows only its id gives back what was asked for.
fn image_name(image: v1::ImageSpec) -> String {
    let is_id = image.image.is_empty() || image.image.starts_with("sha256:");
    if is_id && !image.user_specified_image.is_empty() { image.user_specified_image } else { image.image }
}

fn record(sandbox_id: String, status: v1::ContainerStatus) -> ContainerRecord {
    let attempt = status.metadata.as_ref().map_or(0, |m| m.attempt);
    let meta = labels::container_meta(&status.annotations, attempt);
    let message_file =
        status.mounts.iter().find(|m| m.container_path == meta.message_path && !m.host_path.is_empty());
    // The metadata is what the kubelet gave; the label is for containers of a runtime that leaves it out.
    let name = status.metadata.map(|m| m.name).unwrap_or_default();
    let image = status.image.unwrap_or_default();
    ContainerRecord {
        id: status.id,
        name: if name.is_empty() {
            status.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default()
        } else {
            name
        },
        sandbox_id,
        state: state(status.state),
        created_at: time(status.created_at),
        started_at: time(status.started_at),
        finished_at: time(status.finished_at),
        exit_code: status.exit_code,
        image: image_name(image),
        image_ref: status.image_ref,
        reason: status.reason,
        message: status.message,
        message_file: message_file.map(|m| m.host_path.clone()),
        meta,
        log_path: status.log_path,
        user: status.user.and_then(|u| u.linux).map(|u| (u.uid, u.gid, u.supplemental_groups)),
    }
}
