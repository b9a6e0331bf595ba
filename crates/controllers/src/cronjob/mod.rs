//! CronJobs: jobs at times of the calendar (upstream's cronjob controller).

mod plan;
mod schedule;

use std::collections::HashMap;
use std::sync::Arc;

use client::{Cache, EventRecorder, EventType, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, PostParams, PropagationPolicy};
use parking_lot::Mutex;

use self::plan::{Plan, plan, reference};
use crate::Error;
use crate::common::selector::Matcher;
use crate::common::watching::{Owners, watch_keys, watch_owned};
use crate::common::{api, owner, time};
use crate::context::Context;

struct Controller {
    client: kube::Client,
    events: EventRecorder,
    crons: Cache<CronJob>,
    jobs: Cache<Job>,
    /// The newest state that we wrote, while the cache may be behind.
    written: Mutex<HashMap<ObjectKey, Arc<CronJob>>>,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let crons = context.informers.get::<CronJob>();
    let jobs = context.informers.get::<Job>();
    let queue = WorkQueue::new("cronjob");
    watch_keys(&crons, &queue);
    let owners = Owners {
        cache: crons.cache(),
        queue: queue.clone(),
        expectations: None,
        selector: |_: &CronJob| Matcher::nothing(),
    };
    watch_owned(&jobs, owners);
    crons.synced().await;
    jobs.synced().await;
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        events: context.events.clone(),
        crons: crons.cache(),
        jobs: jobs.cache(),
        written: Mutex::default(),
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(cron) = self.current(key) else { return Ok(Outcome::Done) };
        let mut jobs = owner::controlled_by(&self.jobs, cron.metadata.uid.as_deref().unwrap_or_default());
        self.add_unseen(&cron, &mut jobs).await?;
        let plan = plan(&cron, &jobs, Timestamp::now());
        let requeue = plan.requeue;
        self.act(key, &cron, plan).await?;
        Ok(requeue.map_or(Outcome::Done, Outcome::RequeueAfter))
    }

    /// The cron job as cached, or as we wrote it if that is newer: a job must not be started again, nor be called
    /// unexpected, because the cache is behind.
    fn current(&self, key: &ObjectKey) -> Option<Arc<CronJob>> {
        let mut written = self.written.lock();
        let Some(cached) = self.crons.get_key(key) else {
            written.remove(key);
            return None;
        };
        let version =
            |cron: &CronJob| cron.metadata.resource_version.as_ref().and_then(|v| v.parse::<u64>().ok());
        match written.get(key) {
            Some(ours) if ours.metadata.uid == cached.metadata.uid && version(ours) > version(&cached) => {
                Some(ours.clone())
            }
            _ => {
                written.remove(key);
                Some(cached)
            }
        }
    }

    /// Jobs that are noted as running and not in the cache: the cache may be behind.
    async fn add_unseen(&self, cron: &CronJob, jobs: &mut Vec<Arc<Job>>) -> Result<(), kube::Error> {
        let noted = cron.status.as_ref().and_then(|s| s.active.as_deref()).unwrap_or_default();
        for reference in noted {
            if jobs.iter().any(|job| job.metadata.uid == reference.uid) {
                continue;
            }
            let api: Api<Job> =
                Api::namespaced(self.client.clone(), cron.metadata.namespace.as_deref().unwrap_or_default());
            let found = api.get_opt(reference.name.as_deref().unwrap_or_default()).await?;
            jobs.extend(found.filter(|job| job.metadata.uid == reference.uid).map(Arc::new));
        }
        Ok(())
    }

    async fn act(&self, key: &ObjectKey, cron: &Arc<CronJob>, plan: Plan) -> Result<(), Error> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
        for (is_warning, reason, message) in plan.events {
            let kind = if is_warning { EventType::Warning } else { EventType::Normal };
            self.events.event(cron.as_ref(), kind, reason, message);
        }
        for job in plan.forget.iter().chain(&plan.replace) {
            self.delete(cron, &jobs, job).await?;
        }
        let mut status = plan.status;
        if let Some((job, at)) = plan.start
            && let Some(started) = self.start_job(cron, &jobs, &job).await?
        {
            status.active.get_or_insert_default().push(reference(&started));
            status.last_schedule_time = time::time(at);
        }
        self.write_status(key, cron, status).await
    }

    async fn delete(&self, cron: &CronJob, jobs: &Api<Job>, job: &Job) -> Result<(), Error> {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let options = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..api::delete_uid(job.metadata.uid.as_ref())
        };
        match api::ignore_not_found(jobs.delete(name, &options).await) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => {
                self.events.event(cron, EventType::Normal, "SuccessfulDelete", format!("Deleted job {name}"));
                Ok(())
            }
            Err(error) => {
                let text = format!("Deleted job: {}", api::message(&error));
                self.events.event(cron, EventType::Warning, "FailedDelete", text);
                Err(error.into())
            }
        }
    }

    /// Starts a job; gives it, also if it was started before and that was not noted.
    async fn start_job(&self, cron: &CronJob, jobs: &Api<Job>, job: &Job) -> Result<Option<Job>, Error> {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        match jobs.create(&PostParams::default(), job).await {
            Ok(created) => {
                self.events.event(cron, EventType::Normal, "SuccessfulCreate", format!("Created job {name}"));
                Ok(Some(created))
            }
            Err(error) if api::is_already_exists(&error) => {
                let existing = jobs.get_opt(name).await?;
                let ours = |job: &Job| {
                    owner::controller_of(&job.metadata)
                        .is_some_and(|r| Some(&r.uid) == cron.metadata.uid.as_ref())
                };
                match existing.filter(ours) {
                    Some(job) => Ok(Some(job)),
                    None => Err(error.into()),
                }
            }
            Err(error) if api::is_namespace_terminating(&error) => Ok(None),
            Err(error) => {
                let text = format!("Error creating job: {}", api::message(&error));
                self.events.event(cron, EventType::Warning, "FailedCreate", text);
                Err(error.into())
            }
        }
    }

    async fn write_status(
        &self,
        key: &ObjectKey,
        cron: &Arc<CronJob>,
        status: CronJobStatus,
    ) -> Result<(), Error> {
        if cron.status.clone().unwrap_or_default() == status {
            return Ok(());
        }
        let crons: Api<CronJob> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
        let wanted = CronJob { status: Some(status), ..CronJob::clone(cron) };
        let written = crons.replace_status(&key.name, &PostParams::default(), &wanted).await?;
        self.written.lock().insert(key.clone(), Arc::new(written));
        Ok(())
    }
}
