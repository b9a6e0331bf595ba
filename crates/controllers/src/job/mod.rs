//! Jobs: pods that run to their end (upstream's job controller).

mod act;
mod backoff;
mod indexes;
mod observed;
mod plan;
mod policy;
#[cfg(test)]
mod tests;
mod track;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Cache, Event, EventRecorder, EventType, Informer, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use self::act::Done;
use self::backoff::Record;
use self::observed::{Observed, has_finalizer};
use self::plan::{Plan, SUCCESS_CRITERIA_MET};
use self::track::Step;
use crate::Error;
use crate::common::expectations::Expectations;
use crate::common::pod_control::PodControl;
use crate::common::selector::Matcher;
use crate::common::watching::{Owners, watch_keys, watch_owned};
use crate::common::{conditions, owner, pods, time};
use crate::context::Context;

/// What `spec.managedBy` says of jobs that are ours.
const MANAGER: &str = "kubernetes.io/job-controller";

pub(super) struct Controller {
    client: kube::Client,
    events: EventRecorder,
    pod_control: PodControl,
    jobs: Cache<Job>,
    pods: Cache<Pod>,
    expectations: Arc<Expectations>,
    /// Pods that are expected to be seen without their finalizer.
    removals: Arc<Expectations>,
    records: Mutex<HashMap<ObjectKey, Record>>,
}

/// The condition that a job has ended with, if it has.
pub(crate) fn end_of(job: &Job) -> Option<&JobCondition> {
    let list = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    [plan::COMPLETE, plan::FAILED]
        .into_iter()
        .filter_map(|kind| conditions::find(list, kind))
        .find(|c| c.status == "True")
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let jobs = context.informers.get::<Job>();
    let pods = context.informers.get::<Pod>();
    let queue = WorkQueue::new("job");
    let orphans = WorkQueue::new("job-orphan-pods");
    let expectations = Arc::new(Expectations::default());
    let removals = Arc::new(Expectations::default());
    let owners = Owners {
        cache: jobs.cache(),
        queue: queue.clone(),
        expectations: Some(expectations.clone()),
        selector: |job: &Job| selector_of(job),
    };
    watch_owned(&pods, owners);
    watch_keys(&jobs, &queue);
    watch_finalizers(&jobs, &pods, &removals, &orphans);
    jobs.synced().await;
    pods.synced().await;
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        events: context.events.clone(),
        pod_control: PodControl::new(context.client.clone(), context.events.clone()),
        jobs: jobs.cache(),
        pods: pods.cache(),
        expectations,
        removals,
        records: Mutex::default(),
    });
    let of_orphans = controller.clone();
    run_workers(&context.scope, orphans, 1, move |key: ObjectKey| {
        let controller = of_orphans.clone();
        async move { controller.free_orphan(&key).await }
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

fn selector_of(job: &Job) -> Matcher {
    let selector = job.spec.as_ref().and_then(|s| s.selector.as_ref());
    Matcher::optional(selector).unwrap_or_else(|_| Matcher::nothing())
}

/// Notes when finalizers are seen gone, and finds pods whose job is gone before it could count them.
fn watch_finalizers(
    jobs: &Informer<Job>,
    pods: &Informer<Pod>,
    removals: &Arc<Expectations>,
    orphans: &WorkQueue<ObjectKey>,
) {
    let (removals, of_pods, cache) = (removals.clone(), orphans.clone(), jobs.cache());
    pods.on_event(move |event| {
        let pod = event.object();
        let held = matches!(event, Event::Updated { old, .. } if has_finalizer(old))
            || matches!(event, Event::Deleted(_));
        let holds = has_finalizer(pod) && !matches!(event, Event::Deleted(_));
        let controller = owner::controller_of(&pod.metadata);
        if held
            && !holds
            && let Some(job) = controller.filter(|r| owner::refers_to_kind::<Job>(r))
        {
            let key =
                ObjectKey::namespaced(pod.metadata.namespace.clone().unwrap_or_default(), job.name.clone());
            removals.deletion_observed(&key, pods::uid(pod));
        }
        let known = controller.and_then(|r| owner::resolve(&cache, pod.metadata.namespace.as_deref(), r));
        if holds && known.is_none() {
            of_pods.add(ObjectKey::of(pod.as_ref()));
        }
    });
    let (orphans, cache) = (orphans.clone(), pods.cache());
    jobs.on_event(move |event| {
        if let Event::Deleted(job) = event {
            let pods = owner::controlled_by(&cache, job.metadata.uid.as_deref().unwrap_or_default());
            pods.iter()
                .filter(|pod| has_finalizer(pod))
                .for_each(|pod| orphans.add(ObjectKey::of(pod.as_ref())));
        }
    });
}

impl Controller {
    async fn free_orphan(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.pods.get_key(key).filter(|pod| has_finalizer(pod)) else {
            return Ok(Outcome::Done);
        };
        let controller = owner::controller_of(&pod.metadata);
        let job = controller.and_then(|r| owner::resolve(&self.jobs, key.namespace.as_deref(), r));
        if job.is_none_or(|job| end_of(&job).is_some()) {
            self.take_finalizer_off(&pod).await?;
        }
        Ok(Outcome::Done)
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(job) = self.jobs.get_key(key) else {
            self.forget(key);
            return Ok(Outcome::Done);
        };
        let managed_by = job.spec.as_ref().and_then(|s| s.managed_by.as_deref());
        if managed_by.is_some_and(|manager| manager != MANAGER) {
            return Ok(Outcome::Done);
        }
        // Before the pods are read: what is seen of them now must include what was expected.
        let may_act = self.expectations.satisfied(key);
        let released = self.removals.expected_deletions(key);
        let claims =
            owner::claim(&job.metadata, owner::candidates(&self.pods, &job.metadata), |pod: &Pod| {
                selector_of(&job).matches(pod.metadata.labels.as_ref())
            });
        if end_of(&job).is_some() {
            self.records.lock().remove(key);
            for pod in claims.ours.iter().filter(|pod| has_finalizer(pod)) {
                self.take_finalizer_off(pod).await?;
            }
            return Ok(Outcome::Done);
        }
        let pods =
            owner::settle(&self.client, job.as_ref(), claims, Some(observed::TRACKING_FINALIZER)).await?;
        let observed = Observed::new(job, pods, released, time::now());
        let before = self.records.lock().get(key).copied().unwrap_or_default();
        let record = before.after(observed.newly_succeeded(), observed.newly_failed(), observed.now);
        let plan = plan::plan(&observed, record, may_act);
        let done = self.act(key, &observed, &plan).await;
        let outcome = self.account(key, &observed, plan, done, may_act).await?;
        self.records.lock().insert(key.clone(), record);
        Ok(outcome)
    }

    /// Writes the status and counts finished pods.
    async fn account(
        &self,
        key: &ObjectKey,
        observed: &Observed,
        plan: Plan,
        done: Done,
        may_act: bool,
    ) -> Result<Outcome, Error> {
        let mut status = counts(observed, &done);
        let over = match plan.over {
            Some(over) => (may_act && done.deleted.0 == plan.delete.len()).then_some(over),
            None => {
                let text = "Reached expected number of succeeded pods";
                plan::is_complete(observed, status.active.unwrap_or(0))
                    .then(|| plan::condition(SUCCESS_CRITERIA_MET, "CompletionsReached", text, observed.now))
            }
        };
        if over.is_none()
            && plan.managed
            && let Some((reason, message)) = plan::note_suspension(observed, &mut status)
        {
            self.events.event(observed.job.as_ref(), EventType::Normal, reason, message);
        }
        let step = track::note(observed, status, over.as_ref(), &plan.kept);
        let is_full = step.is_full;
        let error = self.carry_out(key, observed, step).await?.or(done.error);
        match error {
            Some(error) => Err(error.into()),
            None if is_full => Ok(Outcome::RequeueAfter(Duration::ZERO)),
            None => Ok(plan.requeue.map_or(Outcome::Done, Outcome::RequeueAfter)),
        }
    }

    /// Notes, releases, counts, in this order: whatever fails in between, no pod is lost or counted twice.
    async fn carry_out(
        &self,
        key: &ObjectKey,
        observed: &Observed,
        step: Step,
    ) -> Result<Option<kube::Error>, kube::Error> {
        let Step { mut status, release, mut holding, end, is_full } = step;
        let mut job = observed.job.as_ref().clone();
        let mut written = observed.status.clone();
        let mut error = None;
        if !release.is_empty() {
            if normalized(&written) != normalized(&status) {
                job = self.write_status(&job, &status).await?;
                written = status.clone();
            }
            let (released, first) = self.release(key, &release).await;
            error = first;
            released.iter().for_each(|uid| {
                holding.remove(uid);
            });
            track::count_released(&mut status, &holding);
        }
        let ended = error.is_none() && !is_full && track::finish(&mut status, end.as_ref(), observed.now);
        if normalized(&written) != normalized(&status) {
            self.write_status(&job, &status).await?;
        }
        if let (true, Some(end)) = (ended, end) {
            self.tell_end(&job, &end);
        }
        Ok(error)
    }

    fn forget(&self, key: &ObjectKey) {
        self.expectations.forget(key);
        self.removals.forget(key);
        self.records.lock().remove(key);
    }
}

/// The status with the counts of active pods, and the start.
fn counts(observed: &Observed, done: &Done) -> JobStatus {
    let active = observed.active();
    let ready = active.iter().filter(|pod| pods::is_ready(pod)).count();
    let mut status = observed.status.clone();
    if status.start_time.is_none() && !observed.is_suspended() {
        status.start_time = time::time(observed.now);
    }
    let left = active.len() - done.deleted.0.min(active.len()) + done.created;
    status.active = track::some(left as i32);
    status.ready = Some((ready - done.deleted.1.min(ready)) as i32);
    status.terminating = Some(observed.terminating() + done.deleted.0 as i32);
    status
}

/// To compare two: empty notes are no notes.
fn normalized(status: &JobStatus) -> JobStatus {
    let mut status = status.clone();
    if let Some(uncounted) = &mut status.uncounted_terminated_pods {
        uncounted.succeeded = uncounted.succeeded.take().filter(|s| !s.is_empty());
        uncounted.failed = uncounted.failed.take().filter(|f| !f.is_empty());
    }
    status
}
