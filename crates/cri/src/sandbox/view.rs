//! Sandboxes as CRI messages.

use proto::cri::v1 as cri;

use super::{Sandbox, SandboxPhase, SandboxRecord};

impl SandboxRecord {
    fn state(&self) -> cri::PodSandboxState {
        match self.phase {
            SandboxPhase::Ready => cri::PodSandboxState::SandboxReady,
            SandboxPhase::Creating | SandboxPhase::NotReady => cri::PodSandboxState::SandboxNotready,
        }
    }
}

impl Sandbox {
    /// For lists.
    pub fn to_list_item(&self) -> cri::PodSandbox {
        self.record.with(|r| cri::PodSandbox {
            id: r.id.clone(),
            metadata: r.config.metadata.clone(),
            state: r.state().into(),
            created_at: r.created_at_ns,
            labels: r.config.labels.clone(),
            annotations: r.config.annotations.clone(),
            runtime_handler: r.handler.clone(),
        })
    }

    /// The status.
    pub fn to_status(&self) -> cri::PodSandboxStatus {
        let options = self.namespace_options();
        self.record.with(|r| {
            let network = r.ips.split_first().map(|(ip, more)| cri::PodSandboxNetworkStatus {
                ip: ip.clone(),
                additional_ips: more.iter().map(|ip| cri::PodIp { ip: ip.clone() }).collect(),
            });
            cri::PodSandboxStatus {
                id: r.id.clone(),
                metadata: r.config.metadata.clone(),
                state: r.state().into(),
                created_at: r.created_at_ns,
                network: Some(network.unwrap_or_default()),
                linux: Some(cri::LinuxPodSandboxStatus {
                    namespaces: Some(cri::Namespace { options: Some(options) }),
                }),
                labels: r.config.labels.clone(),
                annotations: r.config.annotations.clone(),
                runtime_handler: r.handler.clone(),
            }
        })
    }

    /// For `verbose`.
    pub fn info(&self) -> serde_json::Value {
        self.record.with(|r| {
            serde_json::json!({
                "id": r.id, "netns": r.netns, "ips": r.ips, "runtimeHandler": r.handler,
                "shimDir": self.shim_dir(),
            })
        })
    }
}

/// True if a sandbox passes a filter; ids may be abbreviated.
pub fn matches(item: &cri::PodSandbox, filter: Option<&cri::PodSandboxFilter>) -> bool {
    let Some(filter) = filter else { return true };
    item.id.starts_with(&filter.id)
        && filter.state.is_none_or(|wanted| wanted.state == item.state)
        && filter.label_selector.iter().all(|(key, value)| item.labels.get(key) == Some(value))
}
