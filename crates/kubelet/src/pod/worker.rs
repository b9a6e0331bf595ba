//! The task of one pod: from its first sight to its last trace (upstream `podWorkers`).
//!
//! A pod is synced until it is over: it ended by itself, was deleted, evicted, or ran out of time. Then it is ended,
//! its volumes and groups are taken down, its last status is written, and what the runtime keeps of it is removed when
//! the API has forgotten it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use base::TaskScope;
use client::EventType;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use proto::cri::v1::RemovePodSandboxRequest;
use tokio::sync::{Notify, watch};

use super::act::Troubles;
use super::backoff::Backoffs;
use super::plan::{Inputs, plan};
use super::registry::PodView;
use super::resize::{ResizeTrouble, Resized};
use super::{PodUid, kill, spec};
use crate::container::field::FieldSource;
use crate::container::{sandbox::log_directory, termination};
use crate::cri::{self, ContainerState, Observed};
use crate::events::pod_reference;
use crate::probes::Probes;
use crate::shared::Shared;
use crate::status::{Ending, StatusInputs, compute, is_over};
use crate::volumes::{VolumeSet, tear_down};

/// Pause after the runtime could not be asked, or something could not be taken down.
const RETRY: Duration = Duration::from_secs(1);
/// Pause before a resize that failed is tried again.
const RESIZE_RETRY: Duration = Duration::from_secs(10);

/// What is wanted of a worker.
#[derive(Debug, Clone)]
pub struct Desired {
    /// The pod as its source has it.
    pub pod: Arc<Pod>,
    /// True once its source has it no more.
    pub gone: bool,
    /// Set when the kubelet ends it: rejected, evicted.
    pub ending: Option<Ending>,
    /// Seconds it has to end, if not its own.
    pub grace_s: Option<i64>,
}

impl Desired {
    fn ends(&self) -> bool {
        self.gone || self.ending.is_some() || self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Seconds to end in. One at least: zero would leave no time for the runtime to tell the end.
    fn grace_s(&self) -> i64 {
        self.grace_s.unwrap_or_else(|| spec::grace_period_s(&self.pod)).max(1)
    }
}

/// How a sync step ended.
pub(super) enum Step {
    /// Something was done: look again.
    Again,
    /// Nothing to do until something happens, or the time is over.
    Wait(Option<Duration>),
    /// The pod is over.
    Over,
}

/// The worker of one pod.
pub struct PodWorker {
    pub(super) shared: Arc<Shared>,
    pub(super) uid: PodUid,
    pub(super) desired: watch::Receiver<Desired>,
    pub(super) wake: Arc<Notify>,
    refresh: Arc<AtomicBool>,
    pub(super) view: watch::Sender<PodView>,
    pub(super) observed: Observed,
    pub(super) volumes: VolumeSet,
    volumes_due: Option<SystemTime>,
    volumes_made: bool,
    pub(super) probes: Probes,
    pub(super) backoffs: Backoffs,
    pub(super) troubles: Troubles,
    pub(super) resized: Resized,
    ending: Option<Ending>,
    stopping: bool,
    stopped: bool,
}

impl PodWorker {
    /// A worker that has not looked yet.
    pub fn new(
        shared: Arc<Shared>,
        uid: PodUid,
        desired: watch::Receiver<Desired>,
        wake: Arc<Notify>,
        refresh: Arc<AtomicBool>,
        view: watch::Sender<PodView>,
        scope: &TaskScope,
    ) -> Self {
        let probes = Probes::new(shared.probes.clone(), scope, wake.clone());
        let backoffs = Backoffs::new(shared.config.max_container_restart_period);
        Self {
            shared,
            uid,
            desired,
            wake,
            refresh,
            view,
            observed: Observed::default(),
            volumes: VolumeSet::default(),
            volumes_due: None,
            volumes_made: false,
            probes,
            backoffs,
            troubles: Troubles::default(),
            resized: Resized::default(),
            ending: None,
            stopping: false,
            stopped: false,
        }
    }

    /// Works until nothing of the pod is left.
    pub async fn run(mut self) {
        self.shared.references.follow(&self.pod());
        self.sync_until_over().await;
        self.stopping = true;
        self.end().await;
        self.clean_up().await;
        self.stopped = true;
        self.wait_until_gone().await;
        self.forget().await;
    }

    /// The pod as it is wanted now.
    pub(super) fn pod(&self) -> Arc<Pod> {
        self.desired.borrow().pod.clone()
    }

    async fn sync_until_over(&mut self) {
        // Two receivers: waiting for the end takes note of every change, and one that comes during a step must not be lost.
        let (mut desired, mut ending) = (self.desired.clone(), self.desired.clone());
        loop {
            let wanted = desired.borrow_and_update().clone();
            if wanted.ends() {
                self.ending = wanted.ending;
                return;
            }
            // What runs is dropped when the pod is to end: a pull must not keep it.
            let step = tokio::select! {
                biased;
                () = ends(&mut ending) => continue,
                step = self.step() => step,
            };
            let wait = match step {
                Step::Over => return,
                Step::Again => continue,
                Step::Wait(wait) => self.earliest(wait),
            };
            tokio::select! {
                changed = desired.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.shared.references.follow(&self.pod());
                    self.refresh();
                }
                () = self.wake.notified() => {
                    if self.refresh.swap(false, Ordering::AcqRel) {
                        self.refresh();
                    }
                }
                () = sleep(wait) => {}
            }
        }
    }

    async fn step(&mut self) -> Step {
        let pod = self.pod();
        if let Err(pause) = self.observe().await {
            return Step::Wait(Some(pause));
        }
        let ip = self.observed.ready_sandbox().and_then(|s| s.ips.first().cloned());
        let ip = if spec::host_network(&pod) { self.shared.host_ips.first().cloned() } else { ip };
        self.probes.follow(&pod, &self.observed, ip.as_deref());
        self.resize(&pod).await;
        let status = self.write_status(false);
        if is_over(&status) {
            return Step::Over;
        }
        if let Some(ending) = self.past_deadline(&pod, &status) {
            self.shared.events.event_at(
                pod_reference(&pod),
                EventType::Normal,
                "DeadlineExceeded",
                ending.message.clone(),
            );
            self.ending = Some(ending);
            return Step::Over;
        }
        // Of a pod that an earlier kubelet started, the volumes are taken over.
        let runs = self.volumes_made || self.observed.ready_sandbox().is_some();
        if runs
            && self.volumes_are_due()
            && let Err(pause) = self.prepare_volumes(&pod).await
        {
            self.volumes_due = Some(self.shared.clock.now() + pause);
        }
        let probes = self.probes.results().snapshot();
        let next = plan(&Inputs {
            pod: &pod,
            observed: &self.observed,
            probes: &probes,
            backoffs: &self.backoffs,
            holds: &self.troubles.holds,
            now: self.shared.clock.now(),
        });
        self.act(next).await
    }

    /// Asks the runtime. The error is the pause before the next try.
    pub(super) async fn observe(&mut self) -> Result<(), Duration> {
        match cri::observe(&self.shared.cri, &self.uid, &self.observed).await {
            Ok(mut observed) => {
                for record in observed.containers.iter_mut().filter(|c| c.state == ContainerState::Exited) {
                    let known =
                        self.observed.containers.iter().any(|c| c.id == record.id && c.state == record.state);
                    if !known {
                        record.message = termination::message(record);
                    }
                }
                self.resized.show(&mut observed);
                self.observed = observed;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(pod = %self.uid, %error, "cannot look at the pod");
                Err(RETRY)
            }
        }
    }

    /// Computes the status, shows it and has it written.
    pub(super) fn write_status(&mut self, over: bool) -> PodStatus {
        let pod = self.pod();
        let base = self.shared.status.base(&pod);
        let probes = self.probes.results().snapshot();
        let status = compute(&StatusInputs {
            pod: &pod,
            base: base.as_ref(),
            observed: &self.observed,
            probes: &probes,
            errors: &self.troubles.errors,
            resize: self.resized.trouble.as_ref(),
            host_ips: &self.shared.host_ips,
            runtime_name: &self.shared.runtime_name,
            ending: self.ending.as_ref(),
            stopping: self.stopping,
            stopped: self.stopped,
            now: self.shared.now(),
        });
        let view = PodView {
            pod: pod.clone(),
            status: status.clone(),
            observed: self.observed.clone(),
            stopped: self.stopped,
        };
        self.view.send_replace(view);
        self.shared.status.set(pod, status.clone(), over);
        status
    }

    fn past_deadline(&self, pod: &Pod, status: &PodStatus) -> Option<Ending> {
        let left = self.deadline_left(pod, status)?;
        left.is_zero().then(|| Ending {
            reason: "DeadlineExceeded".to_owned(),
            message: "Pod was active on the node longer than the specified deadline".to_owned(),
            disruption: false,
        })
    }

    fn deadline_left(&self, pod: &Pod, status: &PodStatus) -> Option<Duration> {
        let limit = Duration::from_secs(spec::spec(pod).active_deadline_seconds?.max(0) as u64);
        let started = SystemTime::from(status.start_time.as_ref()?.0);
        Some(limit.saturating_sub(self.shared.clock.now().duration_since(started).unwrap_or_default()))
    }

    /// The first of: the plan's wake, new volume content, the pod's deadline.
    fn earliest(&self, wait: Option<Duration>) -> Option<Duration> {
        let now = self.shared.clock.now();
        let volumes =
            self.volumes_due.filter(|_| self.volumes_made || self.observed.ready_sandbox().is_some());
        let volumes = volumes.map(|due| due.duration_since(now).unwrap_or_default());
        let deadline = self.deadline_left(&self.pod(), &self.view.borrow().status);
        let resize = matches!(self.resized.trouble, Some(ResizeTrouble::Failed(_))).then_some(RESIZE_RETRY);
        [wait, volumes, deadline, resize].into_iter().flatten().min()
    }

    fn volumes_are_due(&self) -> bool {
        match self.volumes_due {
            Some(due) => due <= self.shared.clock.now(),
            None => !self.volumes_made,
        }
    }

    /// Takes note of objects and labels that have changed: volumes show them, and what failed for want of them is
    /// tried again.
    fn refresh(&mut self) {
        self.volumes_due = Some(self.shared.clock.now());
        self.troubles.holds.clear();
        self.troubles.pod_pause = None;
    }

    /// Makes the volumes if they are not made or have new content. The error is the pause of the whole pod.
    pub(super) async fn prepare_volumes(&mut self, pod: &Pod) -> Result<(), Duration> {
        if self.volumes_made && !self.volumes_are_due() {
            return Ok(());
        }
        let ips = self.observed.ready_sandbox().map(|s| s.ips.clone()).unwrap_or_default();
        let pod_ips = if spec::host_network(pod) { &self.shared.host_ips } else { &ips };
        let fields = FieldSource {
            pod,
            pod_ips,
            host_ips: &self.shared.host_ips,
            allocatable: &self.shared.machine.allocatable,
        };
        match self.shared.volumes.set_up(pod, &fields).await {
            Ok(set) => {
                self.volumes_due = set.refresh_after.map(|left| self.shared.clock.now() + left);
                self.volumes = set;
                self.volumes_made = true;
                Ok(())
            }
            Err(error) => {
                self.shared.events.event_at(pod_reference(pod), EventType::Warning, "FailedMount", error);
                Err(self.troubles.next_pause())
            }
        }
    }

    /// Ends all containers and sandboxes. A shorter grace period while this goes on is heeded.
    async fn end(&mut self) {
        self.probes.stop_liveness();
        let mut desired = self.desired.clone();
        loop {
            if let Err(pause) = self.observe().await {
                tokio::time::sleep(pause).await;
                continue;
            }
            self.write_status(false);
            if self.observed.is_stopped() {
                return;
            }
            let wanted = desired.borrow_and_update().clone();
            let grace_s = wanted.grace_s();
            let (shared, observed) = (self.shared.clone(), self.observed.clone());
            let mut kill = std::pin::pin!(kill::kill_pod(&shared, &wanted.pod, &observed, grace_s));
            let killed = loop {
                tokio::select! {
                    killed = &mut kill => break Some(killed),
                    () = shortened(&mut desired, grace_s) => break None,
                    () = self.wake.notified() => {
                        if self.observe().await.is_ok() {
                            self.write_status(false);
                        }
                    }
                }
            };
            // A runtime that says it stopped the pod and then shows it running is not asked again without a pause.
            let again = match killed {
                Some(Err(error)) => {
                    tracing::warn!(pod = %self.uid, %error, "cannot end the pod yet");
                    true
                }
                Some(Ok(())) => self.observe().await.is_ok() && !self.observed.is_stopped(),
                None => false,
            };
            if again {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Takes down volumes and groups; the runtime keeps the ended containers for their logs.
    async fn clean_up(&mut self) {
        loop {
            let (root, uid) = (self.shared.config.root_dir.clone(), self.uid.clone());
            let volumes = tokio::task::spawn_blocking(move || tear_down(&root, &uid)).await;
            let groups = self.shared.cgroups.remove_pod(&self.uid).await;
            let problem = match (volumes, groups) {
                (Ok(Ok(())), Ok(())) => break,
                (Ok(Err(error)), _) | (_, Err(error)) => error.to_string(),
                (Err(error), _) => error.to_string(),
            };
            tracing::warn!(pod = %self.uid, problem, "cannot take down the pod yet");
            tokio::time::sleep(RETRY).await;
        }
        self.shared.groups_changed.notify_one();
        self.shared.references.forget(&self.uid);
        self.shared.volumes.tokens.forget(&self.uid);
        self.shared.images.forget(&self.pod());
        self.volumes_made = false;
    }

    async fn wait_until_gone(&mut self) {
        let mut desired = self.desired.clone();
        loop {
            self.write_status(true);
            let gone = desired.borrow_and_update().gone;
            if gone || desired.changed().await.is_err() {
                return;
            }
        }
    }

    /// Removes what the runtime and the disk keep.
    async fn forget(&mut self) {
        for sandbox in &self.observed.sandboxes {
            let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            if let Err(error) = self.shared.cri.remove_pod_sandbox(request).await {
                tracing::warn!(pod = %self.uid, %error, "sandbox not removed");
            }
        }
        let pod = self.pod();
        let logs = log_directory(&self.shared.config.pod_logs_dir, &pod);
        if let Err(error) = tokio::fs::remove_dir_all(&logs).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(logs = %logs.display(), %error, "logs not removed");
        }
        self.shared.status.forget(&self.uid);
    }
}

/// Waits until the pod is given less time than `grace_s` seconds.
async fn shortened(desired: &mut watch::Receiver<Desired>, grace_s: i64) {
    if desired.wait_for(|d| d.grace_s() < grace_s).await.is_err() {
        std::future::pending().await
    }
}

/// Waits until the pod is to end.
async fn ends(desired: &mut watch::Receiver<Desired>) {
    if desired.wait_for(Desired::ends).await.is_err() {
        std::future::pending().await
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
