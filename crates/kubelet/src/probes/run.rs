//! The tasks that probe the containers of one pod (upstream `prober.worker`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::{SharedClock, TaskScope};
use client::{EventRecorder, EventType};
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::sync::Notify;

use super::check::look;
use super::{ProbeKind, SharedResults, Verdict};
use crate::cri::{ContainerRecord, ContainerState, Cri, Observed};
use crate::events::container_reference;
use crate::pod::spec::{self, ContainerKind, ContainerSpec};

/// What probes need of the kubelet.
#[derive(Clone)]
pub struct ProbeContext {
    /// The runtime.
    pub cri: Cri,
    /// For `Unhealthy`.
    pub events: EventRecorder,
    /// The time.
    pub clock: SharedClock,
    /// When the kubelet started.
    pub kubelet_started: SystemTime,
}

/// The probes of one pod.
pub struct Probes {
    context: ProbeContext,
    scope: TaskScope,
    results: SharedResults,
    wake: Arc<Notify>,
    running: HashMap<(String, ProbeKind), TaskScope>,
}

impl Probes {
    /// No probes yet. `wake` is told when a result changes.
    pub fn new(context: ProbeContext, scope: &TaskScope, wake: Arc<Notify>) -> Self {
        Self {
            context,
            scope: scope.child("probes"),
            results: SharedResults::default(),
            wake,
            running: HashMap::new(),
        }
    }

    /// What was found so far.
    pub fn results(&self) -> &SharedResults {
        &self.results
    }

    /// Starts the probes that running containers need and ends all others.
    pub fn follow(&mut self, pod: &Arc<Pod>, observed: &Observed, pod_ip: Option<&str>) {
        let live =
            |id: &str| observed.containers.iter().any(|c| c.id == id && c.state == ContainerState::Running);
        self.running.retain(|(id, _), _| live(id));
        self.results.retain(live);
        for spec in spec::init_containers(pod).chain(spec::app_containers(pod)) {
            if spec.kind == ContainerKind::Init {
                continue;
            }
            let record = observed.container(&spec.container.name);
            if let Some(record) = record.filter(|r| r.state == ContainerState::Running) {
                self.follow_container(pod, &spec, record, pod_ip.unwrap_or_default());
            }
        }
    }

    /// Ends the probes that a stopping pod no longer needs: all but readiness, which still takes it out of service.
    pub fn stop_liveness(&mut self) {
        self.running.retain(|(_, kind), _| *kind == ProbeKind::Readiness);
    }

    fn follow_container(
        &mut self,
        pod: &Arc<Pod>,
        spec: &ContainerSpec<'_>,
        record: &ContainerRecord,
        ip: &str,
    ) {
        let container = &spec.container;
        self.adopt(pod, container, record);
        if let Some(probe) = &container.startup_probe {
            let startup = self.results.snapshot().get(&record.id).and_then(|r| r.startup);
            if startup != Some(Verdict::Success) {
                self.start(ProbeKind::Startup, probe, pod, spec, record, ip);
                return;
            }
            self.running.remove(&(record.id.clone(), ProbeKind::Startup));
        }
        if let Some(probe) = &container.liveness_probe {
            self.start(ProbeKind::Liveness, probe, pod, spec, record, ip);
        }
        if let Some(probe) = &container.readiness_probe {
            self.start(ProbeKind::Readiness, probe, pod, spec, record, ip);
        }
    }

    /// A container that an earlier kubelet found well is taken as well until its probes say otherwise: a restart of the
    /// kubelet takes nothing out of service.
    fn adopt(&self, pod: &Pod, container: &Container, record: &ContainerRecord) {
        if record.started_at >= self.context.kubelet_started
            || self.results.snapshot().contains_key(&record.id)
        {
            return;
        }
        let Some(status) = &pod.status else { return };
        let lists = [&status.init_container_statuses, &status.container_statuses];
        let same = |id: &Option<String>| id.as_deref().is_some_and(|id| id.ends_with(&record.id));
        let known =
            lists.into_iter().flatten().flatten().find(|s| s.name == container.name && same(&s.container_id));
        let Some(known) = known else { return };
        if known.started == Some(true) && container.startup_probe.is_some() {
            self.results.set(&record.id, ProbeKind::Startup, Verdict::Success);
        }
        if known.ready && container.readiness_probe.is_some() {
            self.results.set(&record.id, ProbeKind::Readiness, Verdict::Success);
        }
    }

    fn start(
        &mut self,
        kind: ProbeKind,
        probe: &Probe,
        pod: &Arc<Pod>,
        spec: &ContainerSpec<'_>,
        record: &ContainerRecord,
        ip: &str,
    ) {
        let key = (record.id.clone(), kind);
        if self.running.contains_key(&key) {
            return;
        }
        let task = ProbeTask {
            context: self.context.clone(),
            kind,
            probe: probe.clone(),
            container: spec.container.clone().into_owned(),
            field_path: spec.field_path(),
            container_id: record.id.clone(),
            started_at: record.started_at,
            pod: pod.clone(),
            pod_ip: ip.to_owned(),
            results: self.results.clone(),
            wake: self.wake.clone(),
        };
        let scope = self.scope.child("probe");
        scope.spawn(task.run());
        self.running.insert(key, scope);
    }
}

struct ProbeTask {
    context: ProbeContext,
    kind: ProbeKind,
    probe: Probe,
    container: Container,
    field_path: String,
    container_id: String,
    started_at: SystemTime,
    pod: Arc<Pod>,
    pod_ip: String,
    results: SharedResults,
    wake: Arc<Notify>,
}

impl ProbeTask {
    async fn run(self) {
        let seconds =
            |value: Option<i32>, default: i32| Duration::from_secs(value.unwrap_or(default).max(0) as u64);
        let since_start = self.context.clock.now().duration_since(self.started_at).unwrap_or_default();
        tokio::time::sleep(seconds(self.probe.initial_delay_seconds, 0).saturating_sub(since_start)).await;
        let period = seconds(self.probe.period_seconds, 10).max(Duration::from_secs(1));
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut streak = Streak::default();
        loop {
            ticks.tick().await;
            let found =
                look(&self.context.cri, &self.probe, &self.container, &self.container_id, &self.pod_ip).await;
            if let Err(reason) = &found {
                self.tell(reason);
            }
            let Some(verdict) = streak.count(found.is_ok(), &self.probe) else { continue };
            if self.results.set(&self.container_id, self.kind, verdict) {
                self.wake.notify_one();
            }
            // What is to be restarted is not probed any more; what has started needs no startup probe.
            let over = match self.kind {
                ProbeKind::Startup => true,
                ProbeKind::Liveness => verdict == Verdict::Failure,
                ProbeKind::Readiness => false,
            };
            if over {
                return;
            }
        }
    }

    fn tell(&self, reason: &str) {
        let about = container_reference(&self.pod, &self.field_path);
        let message = format!("{} probe failed: {reason}", self.kind.as_str());
        self.context.events.event_at(about, EventType::Warning, "Unhealthy", message);
    }
}

/// Equal results in a row.
#[derive(Debug, Default)]
struct Streak {
    last: Option<bool>,
    length: i32,
}

impl Streak {
    /// Counts a result; gives the verdict once its threshold is reached.
    fn count(&mut self, ok: bool, probe: &Probe) -> Option<Verdict> {
        self.length = if self.last == Some(ok) { self.length.saturating_add(1) } else { 1 };
        self.last = Some(ok);
        let threshold = match ok {
            true => probe.success_threshold.unwrap_or(1),
            false => probe.failure_threshold.unwrap_or(3),
        };
        let verdict = if ok { Verdict::Success } else { Verdict::Failure };
        (self.length >= threshold.max(1)).then_some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut streak = Streak::default();
        let (yes, no) = (Some(Verdict::Success), Some(Verdict::Failure));
        for (ok, expected) in [
            (true, None),
            (true, yes),
            (false, None),
            (false, None),
            (true, None),
            (false, None),
            (false, None),
            (false, no),
        ] {
            assert_eq!(streak.count(ok, &probe), expected);
        }
    }
}
