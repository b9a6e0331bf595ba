//! Writing pod statuses to the API: the latest per pod, as patches, and the deletion of pods that are over (upstream
//! `status.manager`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::TaskScope;
use client::{Informer, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;

use super::{status_patch, take_over_end, take_over_foreign};
use crate::pod::{PodUid, spec};

/// How many statuses are written at a time.
const WORKERS: usize = 4;
/// Pause after a write that failed.
const RETRY: Duration = Duration::from_secs(1);

struct Entry {
    pod: Arc<Pod>,
    status: PodStatus,
    /// True once nothing of the pod is left on the node.
    over: bool,
    /// The pod as the API gave it after our last write.
    written: Option<Arc<Pod>>,
}

struct Inner {
    client: kube::Client,
    pods: Informer<Pod>,
    entries: Mutex<HashMap<PodUid, Entry>>,
    queue: WorkQueue<PodUid>,
}

/// Writes statuses.
#[derive(Clone)]
pub struct StatusWriter(Arc<Inner>);

impl StatusWriter {
    /// Writes with `client`; `pods` is what the API has for this node.
    pub fn new(client: kube::Client, pods: Informer<Pod>, scope: &TaskScope) -> Self {
        let queue = WorkQueue::new("pod-status");
        let inner = Inner { client, pods, entries: Mutex::default(), queue: queue.clone() };
        let writer = Self(Arc::new(inner));
        let worker = writer.clone();
        run_workers(scope, queue, WORKERS, move |uid| {
            let writer = worker.clone();
            async move {
                // A longer and longer pause would leave statuses stale long after the API server is back.
                let written = writer.write(uid.clone()).await;
                Ok::<_, kube::Error>(written.unwrap_or_else(|error| {
                    tracing::warn!(pod = %uid, %error, "pod status not written yet");
                    Outcome::RequeueAfter(RETRY)
                }))
            }
        });
        writer
    }

    /// The newest status of the pod that is known here: ours if the API's is older.
    pub fn base(&self, pod: &Pod) -> Option<PodStatus> {
        let ours = {
            let entries = self.0.entries.lock();
            entries.get(&spec::uid(pod)).map(|entry| (entry.status.clone(), entry.written.clone()))
        };
        let (mut status, written) = match ours {
            Some((status, written)) => (status, written),
            None => {
                let there = self.api_pod(pod, None);
                return there.and_then(|p| p.status.clone()).or_else(|| pod.status.clone());
            }
        };
        let there = self.api_pod(pod, written);
        let there = there.as_ref().and_then(|p| p.status.as_ref());
        take_over_foreign(&mut status, there);
        if !spec::is_static(pod) {
            take_over_end(&mut status, there);
        }
        Some(status)
    }

    /// Has `status` written. `over` says that nothing of the pod is left on the node: if it is to be deleted, it now is.
    pub fn set(&self, pod: Arc<Pod>, status: PodStatus, over: bool) {
        let uid = spec::uid(&pod);
        {
            let mut entries = self.0.entries.lock();
            match entries.get_mut(&uid) {
                Some(entry) => {
                    entry.pod = pod;
                    entry.status = status;
                    entry.over |= over;
                }
                None => drop(entries.insert(uid.clone(), Entry { pod, status, over, written: None })),
            }
        }
        self.0.queue.add(uid);
    }

    /// Looks again at a pod whose object in the API has changed.
    pub fn recheck(&self, uid: &PodUid) {
        if self.0.entries.lock().contains_key(uid) {
            self.0.queue.add(uid.clone());
        }
    }

    /// Forgets a pod.
    pub fn forget(&self, uid: &PodUid) {
        self.0.entries.lock().remove(uid);
    }

    /// The pod in the API that stands for `pod`: itself, or its mirror. The newer of the informer's and `written`.
    fn api_pod(&self, pod: &Pod, written: Option<Arc<Pod>>) -> Option<Arc<Pod>> {
        let seen = self.0.pods.cache().get(Some(spec::namespace(pod)), spec::name(pod)).filter(|seen| {
            let mirrored = spec::is_static(pod) && spec::annotation(seen, spec::MIRROR_ANNOTATION).is_some();
            mirrored || seen.metadata.uid == pod.metadata.uid
        });
        let Some(seen) = seen else { return written.filter(|_| !spec::is_static(pod)) };
        let version =
            |pod: &Pod| pod.metadata.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok());
        match written {
            Some(written)
                if written.metadata.uid == seen.metadata.uid && version(&written) > version(&seen) =>
            {
                Some(written)
            }
            _ => Some(seen),
        }
    }

    async fn write(&self, uid: PodUid) -> Result<Outcome, kube::Error> {
        let (pod, mut status, over, written) = {
            let entries = self.0.entries.lock();
            let Some(entry) = entries.get(&uid) else { return Ok(Outcome::Done) };
            (entry.pod.clone(), entry.status.clone(), entry.over, entry.written.clone())
        };
        let there = match self.api_pod(&pod, written) {
            Some(there) => there,
            // The mirror of a static pod is not there (yet): its coming leads here again.
            None if spec::is_static(&pod) => return Ok(Outcome::Done),
            None => pod.clone(),
        };
        let api: Api<Pod> = Api::namespaced(self.0.client.clone(), spec::namespace(&pod));
        let there_uid = there.metadata.uid.clone().unwrap_or_default();
        let base = there.status.clone().unwrap_or_default();
        take_over_foreign(&mut status, Some(&base));
        if !spec::is_static(&pod) {
            take_over_end(&mut status, Some(&base));
        }
        if let Some(patch) = status_patch(&base, &status, &there_uid) {
            match api.patch_status(spec::name(&pod), &PatchParams::default(), &Patch::Strategic(patch)).await
            {
                Ok(written) => {
                    if let Some(entry) = self.0.entries.lock().get_mut(&uid) {
                        entry.written = Some(Arc::new(written));
                    }
                }
                // Gone, or another pod by now.
                Err(kube::Error::Api(e)) if e.code == 404 || e.code == 409 => return Ok(Outcome::Done),
                Err(error) => return Err(error),
            }
        }
        let deleted =
            there.metadata.deletion_timestamp.is_some() || pod.metadata.deletion_timestamp.is_some();
        if over && deleted && !spec::is_static(&pod) {
            self.delete(&api, &pod, there_uid).await?;
        }
        Ok(Outcome::Done)
    }

    async fn delete(&self, api: &Api<Pod>, pod: &Pod, uid: String) -> Result<(), kube::Error> {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(spec::name(pod), &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(e)) if e.code == 404 || e.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }
}
