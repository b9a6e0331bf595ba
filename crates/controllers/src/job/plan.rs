//! Whether a job is over, and which pods it needs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::JobCondition;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::backoff::{self, Record};
use super::indexes::Indexes;
use super::observed::{
    INDEX_FAILURES, INDEX_IGNORED_FAILURES, Observed, annotation, has_finalizer, index_of,
};
use super::policy::{self, Verdict};
use crate::common::pods::{self, Ranked};
use crate::common::{conditions, time};

/// Most pods made or deleted at once.
const MAX_PODS_PER_SYNC: usize = 500;

/// The job will fail when its pods are gone.
pub const FAILURE_TARGET: &str = "FailureTarget";
/// The job will be complete when its pods are gone.
pub const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
/// It has failed.
pub const FAILED: &str = "Failed";
/// It is complete.
pub const COMPLETE: &str = "Complete";
/// It is suspended.
pub const SUSPENDED: &str = "Suspended";

/// What is to be done with pods.
#[derive(Debug, Default)]
pub struct Plan {
    /// The job is over, for this reason: all its active pods are deleted.
    pub over: Option<JobCondition>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Pods to make.
    pub create: Vec<NewPod>,
    /// Failed pods that are kept until their replacement has taken over their count, by index.
    pub kept: BTreeMap<i32, Arc<Pod>>,
    /// Whether the number of pods was considered at all.
    pub managed: bool,
    /// When to look again though nothing changes.
    pub requeue: Option<Duration>,
}

/// A pod to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewPod {
    /// Its index, in an indexed job.
    pub index: Option<i32>,
    /// Failures of that index that count, and that do not; if each index has a limit.
    pub failures: Option<(i32, i32)>,
}

/// A condition that is true.
pub fn condition(kind: &str, reason: &str, message: &str, now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: time::time(now),
        last_transition_time: time::time(now),
    }
}

/// What is to be done with pods. `may_act` is false while the cache lacks what we have made or deleted.
pub fn plan(observed: &Observed, record: Record, may_act: bool) -> Plan {
    let mut plan = Plan { over: is_over(observed), requeue: deadline(observed), ..Plan::default() };
    if observed.is_indexed() && observed.has_limit_per_index() {
        plan.kept = kept(observed);
    }
    if plan.over.is_some() {
        plan.delete = observed.active();
    } else if may_act && observed.job.metadata.deletion_timestamp.is_none() {
        plan.managed = true;
        manage(observed, record, &mut plan);
    }
    plan
}

fn is_over(observed: &Observed) -> Option<JobCondition> {
    if let Some(known) =
        observed.condition(FAILURE_TARGET).or_else(|| observed.condition(SUCCESS_CRITERIA_MET))
    {
        return Some(known.clone());
    }
    let now = observed.now;
    let failure = |reason: &str, message: &str| Some(condition(FAILURE_TARGET, reason, message, now));
    let failed = observed.pods.iter().filter(|pod| observed.has_failed(pod));
    for pod in failed {
        if let Verdict::FailJob(message) = observed.judge(pod) {
            return failure("PodFailurePolicy", &message);
        }
    }
    let limit = observed.spec.backoff_limit.unwrap_or(6);
    if observed.failed() > limit || has_restarted_too_often(observed, limit) {
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if is_past_deadline(observed) {
        return failure("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    if !observed.is_indexed() {
        return None;
    }
    let succeeded = observed.succeeded_indexes();
    if observed.has_limit_per_index() {
        let failed = observed.failed_indexes().len();
        if observed.spec.max_failed_indexes.is_some_and(|most| failed > most) {
            let text = "Job has exceeded the specified maximal number of failed indexes";
            return failure("MaxFailedIndexesExceeded", text);
        }
        if failed > 0 && failed + succeeded.len() >= observed.completions() {
            return failure("FailedIndexes", "Job has failed indexes");
        }
    }
    policy::success(observed.spec.success_policy.as_ref(), observed.completions(), &succeeded)
        .map(|message| condition(SUCCESS_CRITERIA_MET, "SuccessPolicy", &message, now))
}

/// Containers that restart in place count too.
fn has_restarted_too_often(observed: &Observed, limit: i32) -> bool {
    let policy = observed.spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let restarts: i32 = observed
        .pods
        .iter()
        .filter(|pod| matches!(pods::phase(pod), "Running" | "Pending"))
        .filter_map(|pod| pod.status.as_ref())
        .flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses).flatten())
        .map(|c| c.restart_count)
        .sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

fn deadline_at(observed: &Observed) -> Option<Timestamp> {
    let seconds = observed.spec.active_deadline_seconds.filter(|_| !observed.is_suspended())?;
    let start = observed.status.start_time.as_ref()?.0;
    Some(time::plus_seconds(start, seconds))
}

fn is_past_deadline(observed: &Observed) -> bool {
    deadline_at(observed).is_some_and(|at| at <= observed.now)
}

fn deadline(observed: &Observed) -> Option<Duration> {
    let at = match deadline_at(observed) {
        Some(at) => at,
        None if observed.is_suspended() || observed.status.start_time.is_some() => return None,
        // It starts now.
        None => time::plus_seconds(observed.now, observed.spec.active_deadline_seconds?),
    };
    Some(time::until(observed.now, at)).filter(|left| !left.is_zero())
}

fn manage(observed: &Observed, record: Record, plan: &mut Plan) {
    let mut active = observed.active();
    let running = active.len() as i32;
    if observed.is_suspended() {
        plan.delete = active;
        plan.delete.truncate(MAX_PODS_PER_SYNC);
        return;
    }
    let parallelism = observed.spec.parallelism.unwrap_or(1);
    let succeeded =
        if observed.is_indexed() { observed.succeeded_indexes().len() } else { observed.succeeded() };
    let wanted = match observed.spec.completions {
        None if succeeded > 0 => running,
        None => parallelism,
        Some(completions) => (completions - succeeded).min(parallelism).max(0),
    };
    let surplus = usize::try_from(running - wanted).unwrap_or(0);
    plan.delete = to_remove(observed, &mut active, surplus);
    if !plan.delete.is_empty() {
        plan.delete.truncate(MAX_PODS_PER_SYNC);
        return;
    }
    let waiting = if observed.only_replaces_failed() { observed.terminating() } else { 0 };
    let missing = usize::try_from(wanted - waiting - running).unwrap_or(0).min(MAX_PODS_PER_SYNC);
    if missing > 0 {
        create(observed, record, missing, plan);
    }
}

/// Pods whose index is wrong or has another pod, then, if those are too few, the least useful others.
fn to_remove(observed: &Observed, active: &mut Vec<Arc<Pod>>, at_least: usize) -> Vec<Arc<Pod>> {
    let now = observed.now;
    let rank = |pod: &Arc<Pod>| Ranked { pod: pod.clone(), rank: 0 };
    active.sort_by(|a, b| pods::deletion_order(&rank(a), &rank(b), now));
    let mut removed = Vec::new();
    let mut rest = Vec::new();
    if observed.is_indexed() {
        let mut taken = HashSet::new();
        // The most useful pod of an index stays.
        for pod in active.iter().rev() {
            match observed.index(pod) {
                Some(index) if taken.insert(index) => rest.push(pod.clone()),
                _ => removed.push(pod.clone()),
            }
        }
        rest.reverse();
    } else {
        rest.clone_from(active);
    }
    let more = at_least.saturating_sub(removed.len()).min(rest.len());
    removed.extend(rest.drain(..more));
    removed
}

fn create(observed: &Observed, record: Record, missing: usize, plan: &mut Plan) {
    if !observed.has_limit_per_index() {
        let pause = record.remaining(observed.now);
        if !pause.is_zero() {
            plan.requeue = time::earlier(plan.requeue, Some(pause));
            return;
        }
    }
    if !observed.is_indexed() {
        plan.create = vec![NewPod::default(); missing];
        return;
    }
    let mut shortest = None;
    for index in pending_indexes(observed, missing) {
        let failures = observed.has_limit_per_index().then(|| failures(observed, plan.kept.get(&index)));
        if let Some(pod) = plan.kept.get(&index) {
            let (count, ignored) = failures.unwrap_or_default();
            let last = backoff::finished_at(pod, observed.now);
            let pause = backoff::remaining((count + ignored).unsigned_abs(), last, observed.now);
            if !pause.is_zero() {
                shortest = time::earlier(shortest, Some(pause));
                continue;
            }
        }
        plan.create.push(NewPod { index: Some(index), failures });
    }
    plan.requeue = time::earlier(plan.requeue, shortest);
}

/// The first indexes that have no pod and neither succeeded nor failed.
fn pending_indexes(observed: &Observed, count: usize) -> Vec<i32> {
    let busy = observed.active_indexes();
    let succeeded = observed.succeeded_indexes();
    let failed = if observed.has_limit_per_index() { observed.failed_indexes() } else { Indexes::default() };
    let leaving: Indexes = if observed.only_replaces_failed() {
        observed.pods.iter().filter(|pod| pods::is_terminating(pod)).filter_map(|pod| index_of(pod)).collect()
    } else {
        Indexes::default()
    };
    (0..observed.completions())
        .filter(|i| ![&busy, &succeeded, &failed, &leaving].iter().any(|set| set.has(*i)))
        .take(count)
        .collect()
}

/// The counts of failures of an index, its last pod included.
fn failures(observed: &Observed, last: Option<&Arc<Pod>>) -> (i32, i32) {
    let Some(pod) = last else { return (0, 0) };
    let (count, ignored) = (annotation(pod, INDEX_FAILURES), annotation(pod, INDEX_IGNORED_FAILURES));
    match observed.judge(pod) {
        Verdict::Ignore => (count, ignored + 1),
        _ => (count + 1, ignored),
    }
}

/// By index the failed pod with the highest count: it must not go before its count is in the next pod.
fn kept(observed: &Observed) -> BTreeMap<i32, Arc<Pod>> {
    let (succeeded, failed) = (observed.succeeded_indexes(), observed.failed_indexes());
    let active = observed.active_indexes();
    let mut kept: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
    for pod in observed.pods.iter().filter(|pod| has_finalizer(pod) && observed.has_failed(pod)) {
        let Some(index) =
            observed.index(pod).filter(|i| !succeeded.has(*i) && !failed.has(*i) && !active.has(*i))
        else {
            continue;
        };
        let count = |pod: &Pod| annotation(pod, INDEX_FAILURES) + annotation(pod, INDEX_IGNORED_FAILURES);
        if kept.get(&index).is_none_or(|known| count(pod) > count(known)) {
            kept.insert(index, pod.clone());
        }
    }
    kept
}

/// True if the job has what it wants and no pod runs; `active` is how many do after the plan was carried out.
pub fn is_complete(observed: &Observed, active: i32) -> bool {
    let succeeded =
        if observed.is_indexed() { observed.succeeded_indexes().len() } else { observed.succeeded() };
    let enough = observed.spec.completions.map_or(succeeded > 0, |completions| succeeded >= completions);
    enough && active == 0
}

/// Notes that the job was suspended or resumed. Gives the event's reason and message if that is new.
pub fn note_suspension(
    observed: &Observed,
    status: &mut k8s_openapi::api::batch::v1::JobStatus,
) -> Option<(&'static str, &'static str)> {
    let known = conditions::find(status.conditions.as_ref(), SUSPENDED).map(|c| c.status.clone());
    let now = observed.now;
    let (word, reason, message, event) = match (observed.is_suspended(), known.as_deref()) {
        (true, Some("True")) | (false, None | Some("False")) => return None,
        (true, _) => ("True", "JobSuspended", "Job suspended", "Suspended"),
        (false, _) => ("False", "JobResumed", "Job resumed", "Resumed"),
    };
    let list = status.conditions.get_or_insert_default();
    let noted = JobCondition { status: word.to_owned(), ..condition(SUSPENDED, reason, message, now) };
    match list.iter_mut().find(|c| c.type_ == SUSPENDED) {
        Some(old) => *old = noted,
        None => list.push(noted),
    }
    if !observed.is_suspended() {
        // The deadline runs anew.
        status.start_time = time::time(now);
    }
    Some((event, message))
}
