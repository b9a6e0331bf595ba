//! Deletes finished jobs after `ttlSecondsAfterFinished` (upstream's ttlafterfinished).

use std::time::Duration;

use client::{ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, PropagationPolicy};

use crate::Error;
use crate::common::watching::watch_keys;
use crate::common::{api, time};
use crate::context::Context;
use crate::job::end_of;

/// How long until the job expires; zero if it has, None if it does not.
fn plan(job: &Job, now: Timestamp) -> Option<Duration> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let ended = end_of(job)?.last_transition_time.as_ref()?.0;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(time::until(now, time::plus_seconds(ended, i64::from(ttl))))
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let jobs = context.informers.get::<Job>();
    let queue = WorkQueue::new("ttl-after-finished");
    watch_keys(&jobs, &queue);
    jobs.synced().await;
    let (cache, client) = (jobs.cache(), context.client.clone());
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let (job, client) = (cache.get_key(&key), client.clone());
        async move {
            match job.and_then(|job| plan(&job, Timestamp::now())) {
                None => Ok(Outcome::Done),
                Some(left) if !left.is_zero() => Ok(Outcome::RequeueAfter(left)),
                Some(_) => expire(client, &key).await,
            }
        }
    });
    Ok(())
}

/// Deletes the job unless a fresh read says that it stays longer.
async fn expire(client: kube::Client, key: &ObjectKey) -> Result<Outcome, Error> {
    let jobs: Api<Job> = Api::namespaced(client, key.namespace_or_empty());
    let Some(fresh) = jobs.get_opt(&key.name).await? else { return Ok(Outcome::Done) };
    match plan(&fresh, Timestamp::now()) {
        None => Ok(Outcome::Done),
        Some(left) if !left.is_zero() => Ok(Outcome::RequeueAfter(left)),
        Some(_) => {
            let options = DeleteParams {
                propagation_policy: Some(PropagationPolicy::Foreground),
                ..api::delete_uid(fresh.metadata.uid.as_ref())
            };
            api::ignore_not_found(jobs.delete(&key.name, &options).await)?;
            Ok(Outcome::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{at, object};
    use serde_json::json;

    #[test]
    fn only_finished_jobs_with_a_ttl_expire() {
        let ended =
            json!([{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        for (ttl, conditions, expected) in [
            (json!(100), ended.clone(), Some(40)),
            (json!(0), ended.clone(), Some(0)),
            (json!(null), ended, None),
            (json!(100), json!([]), None),
        ] {
            let job =
                object(json!({"metadata": {}, "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
                "status": {"conditions": conditions}}));
            assert_eq!(plan(&job, at("2026-01-01T00:01:00Z")).map(|d| d.as_secs()), expected);
        }
    }
}
