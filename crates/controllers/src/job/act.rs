//! Carrying out a job's plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{EventType, ObjectKey};
use futures::future::join_all;
use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::Controller;
use super::observed::{
    INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES, Observed, TRACKING_FINALIZER, has_finalizer,
};
use super::plan::{FAILED, NewPod, Plan};
use crate::common::pod_control::pod_of;
use crate::common::{api, owner, pods};

/// Tells a pod its index.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// What carrying out a plan came to.
#[derive(Debug, Default)]
pub struct Done {
    /// Pods deleted, and how many of them were ready.
    pub deleted: (usize, usize),
    /// Pods made.
    pub created: usize,
    /// The first error.
    pub error: Option<kube::Error>,
}

impl Controller {
    /// Deletes and makes pods.
    pub(super) async fn act(&self, key: &ObjectKey, observed: &Observed, plan: &Plan) -> Done {
        let mut done = Done::default();
        if !plan.delete.is_empty() {
            self.delete(key, observed, &plan.delete, &mut done).await;
        }
        if !plan.create.is_empty() {
            self.create(key, observed, &plan.create, &mut done).await;
        }
        done
    }

    async fn delete(&self, key: &ObjectKey, observed: &Observed, victims: &[Arc<Pod>], done: &mut Done) {
        self.expectations.expect_deletions(key, victims.iter().map(|pod| pods::uid(pod).to_owned()));
        let job = observed.job.as_ref();
        let results = self.pod_control.delete_expected(job, key, &self.expectations, victims).await;
        for (pod, result) in victims.iter().zip(results) {
            match result {
                Ok(()) => {
                    done.deleted.0 += 1;
                    done.deleted.1 += usize::from(pods::is_ready(pod));
                }
                Err(error) => done.error = done.error.take().or(Some(error)),
            }
        }
    }

    async fn create(&self, key: &ObjectKey, observed: &Observed, wanted: &[NewPod], done: &mut Done) {
        self.expectations.expect_creations(key, wanted.len());
        let (job, expectations) = (observed.job.as_ref(), &*self.expectations);
        let pod = |i: usize| new_pod(observed, &wanted[i]);
        let (created, error) =
            self.pod_control.create_expected(job, key, expectations, wanted.len(), pod).await;
        done.created = created;
        done.error = done.error.take().or(error);
    }

    /// Writes the status; gives the job as it is then.
    pub(super) async fn write_status(&self, job: &Job, status: &JobStatus) -> Result<Job, kube::Error> {
        let key = ObjectKey::of(job);
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
        let wanted = Job { status: Some(status.clone()), ..job.clone() };
        jobs.replace_status(&key.name, &PostParams::default(), &wanted).await
    }

    /// Takes the finalizer off pods; gives those that hold it no more, and the first error.
    pub(super) async fn release(
        &self,
        key: &ObjectKey,
        release: &[Arc<Pod>],
    ) -> (Vec<String>, Option<kube::Error>) {
        self.removals.expect_deletions(key, release.iter().map(|pod| pods::uid(pod).to_owned()));
        let results = join_all(release.iter().map(|pod| self.take_finalizer_off(pod))).await;
        let (mut released, mut first) = (Vec::new(), None);
        for (pod, result) in release.iter().zip(results) {
            match result {
                Ok(()) => released.push(pods::uid(pod).to_owned()),
                Err(error) => {
                    self.removals.deletion_observed(key, pods::uid(pod));
                    first = first.or(Some(error));
                }
            }
        }
        // What is gone from the cache meanwhile will not be seen losing its finalizer.
        for uid in &released {
            let present = release
                .iter()
                .find(|pod| pods::uid(pod) == uid)
                .and_then(|pod| self.pods.get(Some(key.namespace_or_empty()), pods::name(pod)));
            if !present.is_some_and(|pod| pods::uid(&pod) == uid && has_finalizer(&pod)) {
                self.removals.deletion_observed(key, uid);
            }
        }
        (released, first)
    }

    /// Lets the API server remove the pod when it is deleted.
    pub(super) async fn take_finalizer_off(&self, pod: &Pod) -> Result<(), kube::Error> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let patch = json!({"metadata": {"uid": pod.metadata.uid,
            "$deleteFromPrimitiveList/finalizers": [TRACKING_FINALIZER]}});
        match pods.patch(pods::name(pod), &PatchParams::default(), &Patch::Strategic(patch)).await {
            // Another pod has the name now: ours is gone.
            Err(error)
                if !api::is_not_found(&error) && !api::is_conflict(&error) && !api::is_invalid(&error) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Tells users how the job ended.
    pub(super) fn tell_end(&self, job: &Job, end: &k8s_openapi::api::batch::v1::JobCondition) {
        if end.type_ == FAILED {
            let (reason, message) =
                (end.reason.clone().unwrap_or_default(), end.message.clone().unwrap_or_default());
            self.events.event(job, EventType::Warning, &reason, message);
        } else {
            self.events.event(job, EventType::Normal, "Completed", "Job completed");
        }
    }
}

/// The pod that `wanted` describes.
fn new_pod(observed: &Observed, wanted: &NewPod) -> Pod {
    let name = observed.job.metadata.name.as_deref().unwrap_or_default();
    let owner = owner::controller_reference(observed.job.as_ref());
    let mut pod = pod_of(name, owner, &observed.spec.template);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == TRACKING_FINALIZER) {
        finalizers.push(TRACKING_FINALIZER.to_owned());
    }
    let Some(index) = wanted.index else { return pod };
    let text = index.to_string();
    pod.metadata.generate_name = Some(format!("{name}-{index}-"));
    let annotations: &mut BTreeMap<String, String> = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), text.clone());
    if let Some((count, ignored)) = wanted.failures {
        annotations.insert(INDEX_FAILURES.to_owned(), count.to_string());
        if ignored > 0 {
            annotations.insert(INDEX_IGNORED_FAILURES.to_owned(), ignored.to_string());
        }
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), text);
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{name}-{index}"));
        let all = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
        all.for_each(|container| tell_index(&mut container.env));
    }
    pod
}

fn tell_index(env: &mut Option<Vec<EnvVar>>) {
    let env = env.get_or_insert_default();
    if env.iter().any(|v| v.name == INDEX_VARIABLE) {
        return;
    }
    let field = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), api_version: None };
    env.push(EnvVar {
        name: INDEX_VARIABLE.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;

    #[test]
    fn a_pod_knows_its_index() {
        let job: Job = object(json!({"metadata": {"name": "j", "namespace": "ns", "uid": "u"}, "spec": {
            "completions": 3, "completionMode": "Indexed",
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}}}}));
        let observed = Observed::new(Arc::new(job), vec![], Default::default(), crate::common::time::now());
        let pod = new_pod(&observed, &NewPod { index: Some(2), failures: Some((1, 0)) });
        assert_eq!(pod.metadata.generate_name.as_deref(), Some("j-2-"));
        assert_eq!(pod.metadata.annotations.as_ref().unwrap()[INDEX_FAILURES], "1");
        assert_eq!(pod.metadata.labels.as_ref().unwrap()[INDEX], "2");
        assert_eq!(pod.metadata.finalizers.as_deref(), Some(&[TRACKING_FINALIZER.to_owned()][..]));
        let spec = pod.spec.unwrap();
        assert_eq!(spec.hostname.as_deref(), Some("j-2"));
        assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, INDEX_VARIABLE);
    }
}
