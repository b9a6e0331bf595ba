//! Containers as CRI messages.

use proto::cri::v1 as cri;

use super::{Container, ContainerPhase, ContainerRecord, signal};
use crate::node::Node;

/// The state's name in CRI.
pub fn state_name(phase: ContainerPhase) -> &'static str {
    state(phase).as_str_name()
}

fn state(phase: ContainerPhase) -> cri::ContainerState {
    match phase {
        ContainerPhase::Created => cri::ContainerState::ContainerCreated,
        ContainerPhase::Running => cri::ContainerState::ContainerRunning,
        ContainerPhase::Exited => cri::ContainerState::ContainerExited,
    }
}

impl ContainerRecord {
    fn user(&self) -> cri::ContainerUser {
        let user = cri::LinuxContainerUser {
            uid: self.user.uid.into(),
            gid: self.user.gid.into(),
            supplemental_groups: self.user.groups.iter().map(|g| i64::from(*g)).collect(),
        };
        cri::ContainerUser { linux: Some(user) }
    }
}

impl Container {
    /// For lists.
    pub fn to_list_item(&self) -> cri::Container {
        self.record.with(|r| cri::Container {
            id: r.id.clone(),
            pod_sandbox_id: r.sandbox_id.clone(),
            metadata: r.config.metadata.clone(),
            image: r.config.image.clone(),
            image_ref: r.image_ref.clone(),
            state: state(r.phase).into(),
            created_at: r.created_at_ns,
            labels: r.config.labels.clone(),
            annotations: r.config.annotations.clone(),
            image_id: r.image_id.to_string(),
        })
    }

    /// The status.
    pub fn to_status(&self, node: &Node) -> cri::ContainerStatus {
        self.record.with(|r| {
            let mut image = r.config.image.clone().unwrap_or_default();
            // Users know images by tag, the kubelet asked by id.
            if let Some(known) = node.images.find(r.image_id.as_str()) {
                image.image = known.display_name();
            }
            let resources = r.config.linux.as_ref().and_then(|l| l.resources.clone());
            cri::ContainerStatus {
                id: r.id.clone(),
                metadata: r.config.metadata.clone(),
                state: state(r.phase).into(),
                created_at: r.created_at_ns,
                started_at: r.started_at_ns,
                finished_at: r.finished_at_ns,
                exit_code: r.exit_code,
                image: Some(image),
                image_ref: r.image_ref.clone(),
                reason: r.reason.clone(),
                message: r.message.clone(),
                labels: r.config.labels.clone(),
                annotations: r.config.annotations.clone(),
                mounts: r.config.mounts.clone(),
                log_path: r.log_path.as_ref().map(|p| p.display().to_string()).unwrap_or_default(),
                resources: resources
                    .map(|linux| cri::ContainerResources { linux: Some(linux), windows: None }),
                image_id: r.image_id.to_string(),
                user: Some(r.user()),
                stop_signal: signal::to_cri(r.stop_signal).into(),
            }
        })
    }

    /// For `verbose`.
    pub fn info(&self) -> serde_json::Value {
        self.record.with(|r| {
            serde_json::json!({
                "id": r.id, "sandboxID": r.sandbox_id, "pid": r.pid, "bundle": self.bundle,
                "rootfs": self.rootfs(), "cgroups": r.cgroups, "state": self.state_dir,
            })
        })
    }
}

/// True if a container passes a filter; ids may be abbreviated.
pub fn matches(item: &cri::Container, filter: Option<&cri::ContainerFilter>) -> bool {
    let Some(filter) = filter else { return true };
    item.id.starts_with(&filter.id)
        && item.pod_sandbox_id.starts_with(&filter.pod_sandbox_id)
        && filter.state.is_none_or(|wanted| wanted.state == item.state)
        && filter.label_selector.iter().all(|(key, value)| item.labels.get(key) == Some(value))
}
