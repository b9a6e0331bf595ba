//! The workers of all pods of the node.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::TaskScope;
use client::EventType;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::worker::{Desired, PodWorker};
use super::{NodeFit, PodUid, spec, sysctls};
use crate::cri::Observed;
use crate::events::pod_reference;
use crate::shared::Shared;
use crate::status::{Ending, Phase, is_over};

/// A pod as its worker last saw it.
#[derive(Debug, Clone)]
pub struct PodView {
    /// What is asked for.
    pub pod: Arc<Pod>,
    /// Its status.
    pub status: PodStatus,
    /// What the runtime has of it.
    pub observed: Observed,
    /// True once nothing of it runs any more.
    pub stopped: bool,
}

struct Handle {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
    refresh: Arc<AtomicBool>,
    view: watch::Receiver<PodView>,
}

/// Hands what happens to the pod it concerns.
pub struct Registry {
    shared: Arc<Shared>,
    workers: Arc<Mutex<HashMap<PodUid, Handle>>>,
    scope: TaskScope,
    folder_read: watch::Sender<bool>,
}

impl Registry {
    /// No pods yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        let scope = shared.scope.child("pods");
        Self { shared, workers: Arc::default(), scope, folder_read: watch::channel(false).0 }
    }

    /// The folder of static pods has been read once, or there is none.
    pub fn folder_was_read(&self) {
        self.folder_read.send_replace(true);
    }

    /// Waits until every source has told its pods: what is still unknown then belongs to nobody.
    pub async fn sources_seen(&self) {
        self.shared.pods.synced().await;
        // The sender is ours, so waiting cannot fail.
        let _ = self.folder_read.subscribe().wait_for(|read| *read).await;
    }

    /// Takes a pod as its source has it.
    pub fn apply(&self, pod: Arc<Pod>) {
        let uid = spec::uid(&pod);
        let mut workers = self.workers.lock();
        if let Some(handle) = workers.get(&uid) {
            handle.desired.send_if_modified(|desired| {
                let changed = wanted_differs(&desired.pod, &pod);
                desired.pod = pod;
                changed
            });
            return self.shared.status.recheck(&uid);
        }
        let ending = self.admit(&workers, &pod);
        let handle = self.start(uid.clone(), pod, ending);
        workers.insert(uid, handle);
    }

    /// The pod's source has it no more.
    pub fn remove(&self, uid: &PodUid) {
        if let Some(handle) = self.workers.lock().get(uid) {
            handle.desired.send_modify(|desired| desired.gone = true);
        }
    }

    /// Something of the pod changed in the runtime.
    pub fn wake(&self, uid: &PodUid) {
        if let Some(handle) = self.workers.lock().get(uid) {
            handle.wake.notify_one();
        }
    }

    /// An object that the pod names has changed.
    pub fn refresh(&self, uid: &PodUid) {
        if let Some(handle) = self.workers.lock().get(uid) {
            handle.refresh.store(true, Ordering::Release);
            handle.wake.notify_one();
        }
    }

    /// Ends a pod for the kubelet's own reasons.
    pub fn end(&self, uid: &PodUid, ending: Ending, grace_s: i64) {
        if let Some(handle) = self.workers.lock().get(uid) {
            handle.desired.send_modify(|desired| {
                desired.ending.get_or_insert(ending);
                desired.grace_s = Some(grace_s);
            });
        }
    }

    /// All pods.
    pub fn list(&self) -> Vec<PodView> {
        self.workers.lock().values().map(|handle| handle.view.borrow().clone()).collect()
    }

    /// True if there is a worker for the pod.
    pub fn knows(&self, uid: &PodUid) -> bool {
        self.workers.lock().contains_key(uid)
    }

    /// A pod by name, and its changes.
    pub fn find(&self, namespace: &str, name: &str) -> Option<watch::Receiver<PodView>> {
        let workers = self.workers.lock();
        let mut found: Vec<_> = workers
            .values()
            .filter(|handle| {
                let view = handle.view.borrow();
                spec::namespace(&view.pod) == namespace && spec::name(&view.pod) == name
            })
            .map(|handle| handle.view.clone())
            .collect();
        // A pod that takes the name of one that is ending comes first.
        found.sort_by_key(|view| view.borrow().pod.metadata.deletion_timestamp.is_some());
        found.into_iter().next()
    }

    /// A pod that has started before is never turned away: its containers may run.
    fn admit(&self, workers: &HashMap<PodUid, Handle>, pod: &Pod) -> Option<Ending> {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).and_then(Phase::parse);
        let started = pod.status.as_ref().is_some_and(|s| s.start_time.is_some());
        if phase.is_some_and(|p| p != Phase::Pending) || started || pod.metadata.deletion_timestamp.is_some()
        {
            return None;
        }
        // Whoever deletes a pod by force has given away its place, although it may still be stopping.
        let views: Vec<Arc<Pod>> = workers
            .values()
            .filter(|handle| !handle.desired.borrow().gone)
            .map(|handle| handle.view.borrow())
            .filter(|view| !view.stopped)
            .filter(|view| !is_over(&view.status))
            .map(|view| view.pod.clone())
            .collect();
        let node = self.shared.node_object();
        let fit = NodeFit {
            allocatable: self.shared.machine.allocatable.clone(),
            others: views.iter().map(|pod| &**pod).collect(),
            node: node.as_deref(),
        };
        let allowed = &self.shared.config.allowed_unsafe_sysctls;
        let ending = sysctls::admit(pod, allowed).and_then(|()| fit.admit(pod)).err()?;
        let message = ending.message.trim_start_matches("Pod was rejected: ").to_owned();
        self.shared.events.event_at(pod_reference(pod), EventType::Warning, &ending.reason, message);
        Some(ending)
    }

    fn start(&self, uid: PodUid, pod: Arc<Pod>, ending: Option<Ending>) -> Handle {
        let first = PodView {
            status: pod.status.clone().unwrap_or_default(),
            pod: pod.clone(),
            observed: Observed::default(),
            stopped: false,
        };
        let (view_sender, view) = watch::channel(first);
        let wanted = Desired { pod, gone: false, ending, grace_s: None };
        let (desired, receiver) = watch::channel(wanted);
        let wake = Arc::new(Notify::new());
        let refresh = Arc::new(AtomicBool::new(false));
        let scope = self.scope.child("pod");
        let worker = PodWorker::new(
            self.shared.clone(),
            uid.clone(),
            receiver,
            wake.clone(),
            refresh.clone(),
            view_sender,
            &scope,
        );
        let workers = self.workers.clone();
        self.scope.spawn(async move {
            // The scope of the pod's own tasks ends with its worker.
            let _scope = scope;
            worker.run().await;
            workers.lock().remove(&uid);
        });
        Handle { desired, wake, refresh, view }
    }
}

/// True if something other than the status changed: what the kubelet itself writes wakes nobody. Conditions of others
/// count, for readiness gates, and that the pod is over, which others may say too.
fn wanted_differs(old: &Pod, new: &Pod) -> bool {
    let conditions = |pod: &Pod| -> Vec<(String, String)> {
        let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let foreign = conditions.filter(|c| {
            spec::spec(pod).readiness_gates.iter().flatten().any(|g| g.condition_type == c.type_)
        });
        foreign.map(|c| (c.type_.clone(), c.status.clone())).collect()
    };
    let over = |pod: &Pod| pod.status.as_ref().is_some_and(is_over);
    let (a, b) = (&old.metadata, &new.metadata);
    a.labels != b.labels
        || a.annotations != b.annotations
        || a.deletion_timestamp != b.deletion_timestamp
        || a.deletion_grace_period_seconds != b.deletion_grace_period_seconds
        || old.spec != new.spec
        || conditions(old) != conditions(new)
        || over(old) != over(new)
}
