//! Rotation of the logs of running containers.

use std::path::Path;

use proto::cri::v1::ReopenContainerLogRequest;

use crate::cri::ContainerState;
use crate::logs::{Rotation, rotate_if_large};
use crate::pod::Registry;
use crate::shared::Shared;

/// Rotates what is too large.
pub async fn rotate(shared: &Shared, registry: &Registry) {
    let (max_size, max_files) = (shared.config.container_log_max_size, shared.config.container_log_max_files);
    for view in registry.list() {
        for record in view.observed.containers.iter().filter(|c| c.state == ContainerState::Running) {
            let path = Path::new(&record.log_path);
            match rotate_if_large(path, max_size, max_files, shared.now().0) {
                Ok(Rotation::NotNeeded) => {}
                Ok(renamed) => reopen(shared, &record.id, renamed).await,
                Err(error) => tracing::warn!(log = record.log_path, %error, "log not rotated"),
            }
        }
    }
}

/// Removes links to logs that are gone.
pub fn remove_dead_links(shared: &Shared) {
    let Some(folder) = &shared.config.container_logs_dir else { return };
    for link in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let dead = std::fs::symlink_metadata(&link).is_ok_and(|meta| meta.is_symlink()) && !link.exists();
        if dead && let Err(error) = std::fs::remove_file(&link) {
            tracing::debug!(link = %link.display(), %error, "dead log link not removed");
        }
    }
}

async fn reopen(shared: &Shared, id: &str, renamed: Rotation) {
    let request = ReopenContainerLogRequest { container_id: id.to_owned() };
    let Err(error) = shared.cri.reopen_container_log(request).await else { return };
    tracing::warn!(container = id, %error, "the runtime did not open a new log");
    if let Err(error) = renamed.undo() {
        tracing::warn!(container = id, %error, "the log was not renamed back");
    }
}
