//! Ended containers and sandboxes that have a successor. The newest ended one of each name stays, for its log.

use std::collections::HashSet;

use proto::cri::v1::{RemoveContainerRequest, RemovePodSandboxRequest};

use crate::cri::{ContainerState, Observed};
use crate::pod::Registry;
use crate::shared::Shared;

/// Removes them.
pub async fn remove_old(shared: &Shared, registry: &Registry) {
    for view in registry.list() {
        for (id, log) in old_containers(&view.observed) {
            match shared.cri.remove_container(RemoveContainerRequest { container_id: id.clone() }).await {
                Ok(_) => remove_logs(&log),
                Err(error) => tracing::debug!(container = id, %error, "ended container not removed"),
            }
        }
        for id in old_sandboxes(&view.observed) {
            let request = RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
            if let Err(error) = shared.cri.remove_pod_sandbox(request).await {
                tracing::debug!(sandbox = id, %error, "ended sandbox not removed");
            }
        }
    }
}

/// Ids and logs of ended containers behind the newest ended one of their name, and of those that were never started
/// and have a successor.
fn old_containers(observed: &Observed) -> Vec<(String, String)> {
    let (mut seen, mut kept) = (HashSet::new(), HashSet::new());
    let old = observed.containers.iter().filter(|c| {
        let newest = seen.insert(&c.name);
        match c.state {
            ContainerState::Exited => !kept.insert(&c.name),
            ContainerState::Created => !newest,
            ContainerState::Running | ContainerState::Unknown => false,
        }
    });
    old.map(|c| (c.id.clone(), c.log_path.clone())).collect()
}

/// Sandboxes behind the newest that are over and hold no container.
fn old_sandboxes(observed: &Observed) -> Vec<String> {
    let used: HashSet<&str> = observed.containers.iter().map(|c| c.sandbox_id.as_str()).collect();
    let behind = observed.sandboxes.iter().skip(1).filter(|s| !s.ready && !used.contains(s.id.as_str()));
    behind.map(|s| s.id.clone()).collect()
}

fn remove_logs(log: &str) {
    let path = std::path::Path::new(log);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return;
    };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let matches =
            entry.file_name().to_str().is_some_and(|n| n == name || n.starts_with(&format!("{name}.")));
        if matches && let Err(error) = std::fs::remove_file(entry.path()) {
            tracing::debug!(%error, log, "log of a removed container not removed");
        }
    }
}
