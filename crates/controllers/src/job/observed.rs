//! A job and its pods, as its plan sees them.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::indexes::Indexes;
use super::policy::{self, Verdict};
use crate::common::{conditions, pods};

/// Keeps a finished pod until it is counted.
pub const TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label of a pod of an indexed job.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often a pod's index failed before, if each index has a limit of its own.
pub const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The same for failures that do not count.
pub const INDEX_IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// A job with its pods.
pub struct Observed {
    /// The job.
    pub job: Arc<Job>,
    /// Its spec.
    pub spec: JobSpec,
    /// Its status as last written.
    pub status: JobStatus,
    /// All its pods.
    pub pods: Vec<Arc<Pod>>,
    /// Pods from which the finalizer was taken, though the cache does not show it yet.
    pub released: HashSet<String>,
    /// The wall clock.
    pub now: Timestamp,
}

impl Observed {
    /// A job with its pods.
    pub fn new(job: Arc<Job>, pods: Vec<Arc<Pod>>, released: HashSet<String>, now: Timestamp) -> Self {
        let spec = job.spec.clone().unwrap_or_default();
        let status = job.status.clone().unwrap_or_default();
        Self { job, spec, status, pods, released, now }
    }

    /// True if every pod stands for an index.
    pub fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    /// True if each index may fail so often.
    pub fn has_limit_per_index(&self) -> bool {
        self.spec.backoff_limit_per_index.is_some()
    }

    /// True if no pods are to run.
    pub fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    /// True if a pod is replaced only when it has failed, not already when it terminates.
    pub fn only_replaces_failed(&self) -> bool {
        match self.spec.pod_replacement_policy.as_deref() {
            Some(policy) => policy == "Failed",
            None => self.spec.pod_failure_policy.is_some(),
        }
    }

    /// Number of completions of an indexed job.
    pub fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(0)
    }

    /// Pods that run or may still run.
    pub fn active(&self) -> Vec<Arc<Pod>> {
        self.pods.iter().filter(|pod| pods::is_active(pod)).cloned().collect()
    }

    /// How many pods are on their way out.
    pub fn terminating(&self) -> i32 {
        self.pods.iter().filter(|pod| pods::is_terminating(pod)).count() as i32
    }

    /// A condition of the job's status that is true.
    pub fn condition(&self, kind: &str) -> Option<&JobCondition> {
        conditions::find(self.status.conditions.as_ref(), kind).filter(|c| c.status == "True")
    }

    /// True if the pod holds the finalizer and was not counted.
    pub fn is_tracked(&self, pod: &Pod) -> bool {
        has_finalizer(pod) && !self.released.contains(pods::uid(pod))
    }

    /// True if the pod has failed, or will never do anything else.
    pub fn has_failed(&self, pod: &Pod) -> bool {
        match pods::phase(pod) {
            "Failed" => true,
            "Succeeded" => false,
            _ => pod.metadata.deletion_timestamp.is_some() && !self.only_replaces_failed(),
        }
    }

    /// The verdict of the failure policy on a failed pod.
    pub fn judge(&self, pod: &Pod) -> Verdict {
        policy::judge(self.spec.pod_failure_policy.as_ref(), pod)
    }

    /// The pod's index, if it is one of the job's.
    pub fn index(&self, pod: &Pod) -> Option<i32> {
        index_of(pod).filter(|i| (0..self.completions()).contains(i))
    }

    fn counts(&self, pod: &Pod) -> bool {
        self.is_tracked(pod) && (!self.is_indexed() || self.index(pod).is_some())
    }

    /// Pods that have succeeded and are neither counted nor in the uncounted list.
    pub fn newly_succeeded(&self) -> Vec<&Pod> {
        let uncounted = self.uncounted().0;
        let new = |pod: &&Arc<Pod>| {
            self.counts(pod) && pods::phase(pod) == "Succeeded" && !uncounted.contains(pods::uid(pod))
        };
        self.pods.iter().filter(new).map(Arc::as_ref).collect()
    }

    /// Pods that have failed and are neither counted nor in the uncounted list.
    pub fn newly_failed(&self) -> Vec<&Pod> {
        let uncounted = self.uncounted().1;
        let new =
            |pod: &&Arc<Pod>| self.counts(pod) && self.has_failed(pod) && !uncounted.contains(pods::uid(pod));
        self.pods.iter().filter(new).map(Arc::as_ref).collect()
    }

    /// Uids of finished pods that are noted in the status but not yet in its counters: succeeded and failed.
    pub fn uncounted(&self) -> (HashSet<String>, HashSet<String>) {
        let uncounted = self.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let set = |uids: Option<Vec<String>>| uids.into_iter().flatten().collect();
        (set(uncounted.succeeded), set(uncounted.failed))
    }

    /// Succeeded pods, counted or not, of a job without indexes.
    pub fn succeeded(&self) -> i32 {
        let noted = self.uncounted().0.len() + self.newly_succeeded().len();
        self.status.succeeded.unwrap_or(0) + noted as i32
    }

    /// Failed pods that count, counted or not.
    pub fn failed(&self) -> i32 {
        let new = self.newly_failed().into_iter().filter(|pod| self.judge(pod) != Verdict::Ignore).count();
        self.status.failed.unwrap_or(0) + (self.uncounted().1.len() + new) as i32
    }

    /// The indexes that the status says have succeeded.
    pub fn counted_indexes(&self) -> Indexes {
        Indexes::parse(self.status.completed_indexes.as_deref().unwrap_or_default(), self.completions())
    }

    /// The indexes that have succeeded, counted or not.
    pub fn succeeded_indexes(&self) -> Indexes {
        let mut indexes = self.counted_indexes();
        let new = self.pods.iter().filter(|pod| has_finalizer(pod) && pods::phase(pod) == "Succeeded");
        new.filter_map(|pod| self.index(pod)).for_each(|i| indexes.insert(i));
        indexes
    }

    /// The indexes that have failed for good.
    pub fn failed_indexes(&self) -> Indexes {
        let text = self.status.failed_indexes.as_deref().unwrap_or_default();
        let mut indexes = Indexes::parse(text, self.completions());
        let limit = self.spec.backoff_limit_per_index.unwrap_or(i32::MAX);
        for pod in self.pods.iter().filter(|pod| has_finalizer(pod) && self.has_failed(pod)) {
            let failed = match self.judge(pod) {
                Verdict::FailIndex => true,
                Verdict::Ignore => false,
                _ => annotation(pod, INDEX_FAILURES) >= limit,
            };
            if failed && let Some(index) = self.index(pod) {
                indexes.insert(index);
            }
        }
        indexes
    }

    /// The indexes that have a pod now.
    pub fn active_indexes(&self) -> Indexes {
        self.pods.iter().filter(|pod| pods::is_active(pod)).filter_map(|pod| self.index(pod)).collect()
    }
}

/// True if the pod holds the tracking finalizer.
pub fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == TRACKING_FINALIZER)
}

/// The index in a pod's annotation.
pub fn index_of(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

/// A count in a pod's annotation; 0 if there is none.
pub fn annotation(pod: &Pod, name: &str) -> i32 {
    pod.metadata.annotations.as_ref().and_then(|a| a.get(name)?.parse().ok()).unwrap_or(0)
}
