//! Pods that nobody asks for any more: what an earlier kubelet left.

use proto::cri::v1::{RemovePodSandboxRequest, StopPodSandboxRequest};

use crate::cri::{ContainerState, CriError, PodRecord, list_pods};
use crate::pod::{PodUid, Registry};
use crate::shared::Shared;
use crate::volumes::tear_down;

/// Seconds that the containers of an orphan have to end.
const GRACE_S: i64 = 30;

/// Ends and removes pods of the runtime, folders and cgroups that belong to no known pod.
pub async fn remove(shared: &Shared, registry: &Registry) {
    match list_pods(&shared.cri).await {
        Ok(pods) => {
            for (uid, record) in pods.iter().filter(|(uid, _)| !registry.knows(uid)) {
                tracing::info!(pod = %uid, name = record.name, namespace = record.namespace, "removing an orphaned pod");
                if let Err(error) = remove_pod(shared, uid, record).await {
                    tracing::warn!(pod = %uid, %error, "orphaned pod not removed yet");
                }
            }
            remove_traces(shared, registry, |uid| pods.contains_key(uid)).await;
        }
        Err(error) => tracing::warn!(%error, "cannot look for orphaned pods"),
    }
}

async fn remove_pod(shared: &Shared, uid: &PodUid, record: &PodRecord) -> Result<(), CriError> {
    let running = record.containers.iter().filter(|(_, state)| *state != ContainerState::Exited);
    let stops = running.map(|(id, _)| shared.cri.stop_container(id.clone(), GRACE_S));
    for stopped in futures::future::join_all(stops).await {
        stopped.or_else(|e| if e.is_not_found() { Ok(()) } else { Err(e) })?;
    }
    for (id, ready) in &record.sandboxes {
        if *ready {
            shared.cri.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.clone() }).await?;
        }
        shared.cri.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id.clone() }).await?;
    }
    let logs = shared.config.pod_logs_dir.join(format!("{}_{}_{uid}", record.namespace, record.name));
    if let Err(error) = tokio::fs::remove_dir_all(&logs).await {
        tracing::debug!(logs = %logs.display(), %error, "logs of an orphaned pod not removed");
    }
    Ok(())
}

async fn remove_traces(shared: &Shared, registry: &Registry, in_runtime: impl Fn(&PodUid) -> bool) {
    let entries = std::fs::read_dir(shared.pods_dir()).into_iter().flatten().flatten();
    let folders = entries.filter_map(|e| Some(PodUid::from(e.file_name().to_str()?)));
    for uid in folders.filter(|uid| !registry.knows(uid) && !in_runtime(uid)) {
        if let Err(error) = tear_down(&shared.config.root_dir, &uid) {
            tracing::warn!(pod = %uid, %error, "folder of an orphaned pod not removed");
        }
    }
    for uid in shared.cgroups.pods().into_iter().filter(|uid| !registry.knows(uid) && !in_runtime(uid)) {
        if let Err(error) = shared.cgroups.remove_pod(&uid).await {
            tracing::warn!(pod = %uid, %error, "cgroup of an orphaned pod not removed");
        }
    }
}
