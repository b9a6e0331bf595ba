//! Counting finished pods exactly once: each is noted by uid in the status, then loses its finalizer, then moves from the
//! notes into the counters (KEP-2307).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use super::observed::Observed;
use super::plan::{COMPLETE, FAILED, FAILURE_TARGET, SUCCESS_CRITERIA_MET, condition};
use super::policy::Verdict;
use crate::common::{conditions, pods};

/// Most pods noted at once.
const MAX_UNCOUNTED: usize = 500;

/// A step of counting.
#[derive(Debug)]
pub struct Step {
    /// The status to write before finalizers are taken off.
    pub status: JobStatus,
    /// Pods whose finalizer may be taken off when that is written.
    pub release: Vec<Arc<Pod>>,
    /// Uids of pods that hold a finalizer now.
    pub holding: HashSet<String>,
    /// The condition that the job ends with when all is counted.
    pub end: Option<JobCondition>,
    /// There was more to note than fits.
    pub is_full: bool,
}

/// What `status`, with counts of active pods already in it, becomes by noting finished pods. `over` says that the job is
/// over and no pod of it is active.
pub fn note(
    observed: &Observed,
    mut status: JobStatus,
    over: Option<&JobCondition>,
    kept: &BTreeMap<i32, Arc<Pod>>,
) -> Step {
    let holding: HashSet<String> = observed
        .pods
        .iter()
        .filter(|pod| observed.is_tracked(pod))
        .map(|pod| pods::uid(pod).to_owned())
        .collect();
    count_released(&mut status, &holding);
    let (noted_succeeded, noted_failed) = observed.uncounted();
    let mut uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let mut indexes = observed.counted_indexes();
    let mut release = Vec::new();
    let mut noted = 0;
    for pod in observed.pods.iter().filter(|pod| observed.is_tracked(pod)) {
        let failed = observed.has_failed(pod);
        if !may_release(observed, pod, failed, over, kept) {
            continue;
        }
        release.push(pod.clone());
        let uid = pods::uid(pod).to_owned();
        if pods::phase(pod) == "Succeeded" && !noted_failed.contains(&uid) {
            if observed.is_indexed() {
                if let Some(index) = observed.index(pod).filter(|i| !indexes.has(*i)) {
                    indexes.insert(index);
                    noted += 1;
                }
            } else if !noted_succeeded.contains(&uid) {
                uncounted.succeeded.get_or_insert_default().push(uid);
                noted += 1;
            }
        } else if failed || over.is_some_and(|c| c.type_ != SUCCESS_CRITERIA_MET) {
            let is_ours = !observed.is_indexed() || observed.index(pod).is_some();
            if is_ours && !noted_failed.contains(&uid) && observed.judge(pod) != Verdict::Ignore {
                uncounted.failed.get_or_insert_default().push(uid);
                noted += 1;
            }
        }
        if noted >= MAX_UNCOUNTED {
            break;
        }
    }
    if observed.is_indexed() {
        status.succeeded = some(indexes.len());
        status.completed_indexes = Some(indexes.to_string()).filter(|text| !text.is_empty());
        status.failed_indexes = observed.has_limit_per_index().then(|| observed.failed_indexes().to_string());
    }
    status.uncounted_terminated_pods = Some(uncounted);
    let end = over.map(|over| end_of(&mut status, over));
    Step { status, release, holding, end, is_full: noted >= MAX_UNCOUNTED }
}

/// Absent is zero.
pub fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

fn may_release(
    observed: &Observed,
    pod: &Pod,
    failed: bool,
    over: Option<&JobCondition>,
    kept: &BTreeMap<i32, Arc<Pod>>,
) -> bool {
    if observed.job.metadata.deletion_timestamp.is_some() || over.is_some() || pods::phase(pod) == "Succeeded"
    {
        return true;
    }
    let is_kept = observed
        .index(pod)
        .and_then(|index| kept.get(&index))
        .is_some_and(|kept| kept.metadata.uid == pod.metadata.uid);
    failed && !is_kept
}

/// Puts the interim condition into the status, and gives the final one.
fn end_of(status: &mut JobStatus, over: &JobCondition) -> JobCondition {
    if conditions::find(status.conditions.as_ref(), &over.type_).is_none() {
        status.conditions.get_or_insert_default().push(over.clone());
    }
    let kind = if over.type_ == FAILURE_TARGET { FAILED } else { COMPLETE };
    let (reason, message) = (over.reason.as_deref(), over.message.as_deref());
    let at = over.last_transition_time.as_ref().map_or(k8s_openapi::jiff::Timestamp::UNIX_EPOCH, |t| t.0);
    condition(kind, reason.unwrap_or_default(), message.unwrap_or_default(), at)
}

/// Moves noted pods that hold no finalizer any more into the counters.
pub fn count_released(status: &mut JobStatus, holding: &HashSet<String>) {
    let Some(uncounted) = status.uncounted_terminated_pods.as_mut() else { return };
    let settle = |uids: &mut Option<Vec<String>>, counter: &mut Option<i32>| {
        let Some(list) = uids else { return };
        let before = list.len();
        list.retain(|uid| holding.contains(uid));
        let counted = (before - list.len()) as i32;
        if list.is_empty() {
            *uids = None;
        }
        *counter = some(counter.unwrap_or(0) + counted);
    };
    settle(&mut uncounted.succeeded, &mut status.succeeded);
    settle(&mut uncounted.failed, &mut status.failed);
}

/// Ends the job if all is counted and no pod is on its way out. True if it ended.
pub fn finish(status: &mut JobStatus, end: Option<&JobCondition>, now: k8s_openapi::jiff::Timestamp) -> bool {
    let Some(end) = end else { return false };
    let uncounted = status.uncounted_terminated_pods.as_ref();
    let left = uncounted.is_some_and(|u| {
        u.succeeded.as_ref().is_some_and(|s| !s.is_empty())
            || u.failed.as_ref().is_some_and(|f| !f.is_empty())
    });
    if left || status.terminating.unwrap_or(0) > 0 {
        return false;
    }
    let at = crate::common::time::time(now);
    let end = JobCondition { last_probe_time: at.clone(), last_transition_time: at.clone(), ..end.clone() };
    if end.type_ == COMPLETE {
        status.completion_time = at;
    }
    status.conditions.get_or_insert_default().push(end);
    true
}
