//! The folder of static pods (`staticPodPath`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::{Event, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use super::{manifest, mirror};
use crate::inotify::Watch;
use crate::pod::{PodUid, Registry, spec};
use crate::shared::Shared;

/// Pause before a folder that cannot be watched is tried again.
const RETRY: Duration = Duration::from_secs(5);

type Wanted = Arc<Mutex<BTreeMap<ObjectKey, Arc<Pod>>>>;

/// Runs the pods of the folder, and keeps their mirrors, for ever.
pub async fn follow_folder(shared: Arc<Shared>, registry: Arc<Registry>) {
    let Some(folder) = shared.config.static_pod_path.clone() else { return registry.folder_was_read() };
    let wanted = Wanted::default();
    let mirrors = keep_mirrors(&shared, wanted.clone());
    let mut running: BTreeMap<PodUid, Arc<Pod>> = BTreeMap::new();
    loop {
        let watch = match watch(&folder) {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "cannot watch static pods");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        loop {
            let pods = read_folder(&folder, &shared);
            apply(pods, &mut running, &registry, &wanted, &mirrors);
            registry.folder_was_read();
            if watch.changed().await.is_err() || !folder.is_dir() {
                break;
            }
        }
    }
}

fn watch(folder: &Path) -> std::io::Result<Watch> {
    std::fs::create_dir_all(folder)?;
    let watch = Watch::new()?;
    watch.add_folder(folder)?;
    Ok(watch)
}

fn read_folder(folder: &Path, shared: &Shared) -> Vec<Pod> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let mut files: Vec<_> = entries
        .filter(|path| {
            path.is_file() && !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'))
        })
        .collect();
    files.sort();
    let now = shared.now();
    let read = files.into_iter().filter_map(|file| {
        manifest::read(&file, &shared.config.node_name, &now)
            .map_err(|error| tracing::error!(file = %file.display(), error, "not a static pod"))
            .ok()
    });
    read.collect()
}

fn apply(
    pods: Vec<Pod>,
    running: &mut BTreeMap<PodUid, Arc<Pod>>,
    registry: &Registry,
    wanted: &Wanted,
    mirrors: &WorkQueue<ObjectKey>,
) {
    let pods: BTreeMap<PodUid, Arc<Pod>> =
        pods.into_iter().map(|pod| (spec::uid(&pod), Arc::new(pod))).collect();
    let mut touched = BTreeSet::new();
    for (uid, pod) in running.iter().filter(|(uid, _)| !pods.contains_key(*uid)) {
        registry.remove(uid);
        touched.insert(ObjectKey::of(&**pod));
    }
    for (uid, pod) in &pods {
        if !running.contains_key(uid) {
            registry.apply(pod.clone());
            touched.insert(ObjectKey::of(&**pod));
        }
    }
    *wanted.lock() = pods.values().map(|pod| (ObjectKey::of(&**pod), pod.clone())).collect();
    *running = pods;
    touched.into_iter().for_each(|key| mirrors.add(key));
}

fn keep_mirrors(shared: &Arc<Shared>, wanted: Wanted) -> WorkQueue<ObjectKey> {
    let queue = WorkQueue::new("mirror-pods");
    let of_event = queue.clone();
    shared.pods.on_event(move |event| {
        if spec::is_mirror(event.object()) {
            of_event.add(ObjectKey::of(&**event.object()));
        }
    });
    // A mirror belongs to its Node: it is made when that is there.
    let (of_node, all) = (queue.clone(), wanted.clone());
    shared.node.on_event(move |event| {
        if matches!(event, Event::Added(_)) {
            all.lock().keys().cloned().for_each(|key| of_node.add(key));
        }
    });
    let worker_shared = shared.clone();
    run_workers(&shared.scope, queue.clone(), 1, move |key: ObjectKey| {
        let (shared, wanted) = (worker_shared.clone(), wanted.clone());
        async move {
            // Before the first list a mirror that is there would be taken for missing.
            shared.pods.synced().await;
            shared.node.synced().await;
            let pod = wanted.lock().get(&key).cloned();
            mirror::reconcile(&shared, key.namespace_or_empty(), &key.name, pod.as_deref())
                .await
                .map(|()| Outcome::Done)
        }
    });
    queue
}
