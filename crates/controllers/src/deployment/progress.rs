//! A deployment's status: counts, and conditions that say whether its rollout gets on.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::jiff::Timestamp;

use super::observed::{Observed, available, size};
use crate::common::{conditions, time};

/// Says whether the rollout gets on.
pub const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
/// Reasons of [`PROGRESSING`].
const NEW_RS_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";
const UPDATED: &str = "ReplicaSetUpdated";

fn condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: time::time(now),
        last_update_time: time::time(now),
    }
}

/// A condition [`PROGRESSING`].
pub fn progressing(status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    condition(PROGRESSING, status, reason, message, now)
}

/// Sets a condition, unless it says what is said already; with the same status its transition time stays.
pub fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(current) = conditions::find(status.conditions.as_ref(), &condition.type_)
        && current.status == condition.status
    {
        condition.last_transition_time.clone_from(&current.last_transition_time);
    }
    conditions::set(&mut status.conditions, condition);
}

/// Notes that the deployment was paused or resumed. True if there was something to note.
pub fn note_pause(observed: &Observed, status: &mut DeploymentStatus) -> bool {
    if observed.progress_deadline().is_none() {
        return false;
    }
    let reason = conditions::find(status.conditions.as_ref(), PROGRESSING).and_then(|c| c.reason.as_deref());
    if reason == Some(TIMED_OUT) {
        return false;
    }
    let noted = reason == Some(PAUSED);
    let condition = match (observed.spec.paused == Some(true), noted) {
        (true, false) => progressing("Unknown", PAUSED, "Deployment is paused".to_owned(), observed.now),
        (false, true) => progressing("Unknown", RESUMED, "Deployment is resumed".to_owned(), observed.now),
        _ => return false,
    };
    set(status, condition);
    true
}

/// `noted` with the counts of the replica sets and condition Available.
pub fn counts(observed: &Observed, noted: DeploymentStatus) -> DeploymentStatus {
    let sum = |of: fn(&ReplicaSet) -> i32| observed.all().map(|rs| of(rs)).sum::<i32>();
    let of_status =
        |rs: &ReplicaSet, field: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> Option<i32>| {
            rs.status.as_ref().and_then(field).unwrap_or(0)
        };
    let available_now = sum(available);
    let updated = observed.new.as_ref().map_or(0, |rs| of_status(rs, |s| Some(s.replicas)));
    let ready: i32 = observed.all().map(|rs| of_status(rs, |s| s.ready_replicas)).sum();
    let replicas: i32 = observed.all().map(|rs| of_status(rs, |s| Some(s.replicas))).sum();
    let known = observed.all().all(|rs| rs.status.as_ref().is_some_and(|s| s.terminating_replicas.is_some()));
    let terminating: i32 = observed.all().map(|rs| of_status(rs, |s| s.terminating_replicas)).sum();
    let mut status = DeploymentStatus {
        observed_generation: observed.deployment.metadata.generation,
        replicas: some(replicas),
        updated_replicas: some(updated),
        ready_replicas: some(ready),
        available_replicas: some(available_now),
        unavailable_replicas: some((sum(size) - available_now).max(0)),
        terminating_replicas: known.then_some(terminating),
        collision_count: noted.collision_count,
        conditions: noted.conditions,
    };
    let enough = available_now >= observed.replicas() - observed.max_unavailable;
    let (word, reason, text) = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, condition(AVAILABLE, word, reason, text.to_owned(), observed.now));
    status
}

fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// True if all pods are of the current template and available, and no other is left.
pub fn is_complete(observed: &Observed, status: &DeploymentStatus) -> bool {
    let desired = observed.replicas();
    let all = [status.updated_replicas, status.replicas, status.available_replicas];
    all.iter().all(|count| count.unwrap_or(0) == desired)
        && status.observed_generation.unwrap_or(0) >= observed.deployment.metadata.generation.unwrap_or(0)
}

/// True if `now` is nearer to the goal than `before`.
fn has_progressed(before: &DeploymentStatus, now: &DeploymentStatus) -> bool {
    let n = |count: Option<i32>| count.unwrap_or(0);
    let old = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(now.updated_replicas) > n(before.updated_replicas)
        || old(now) < old(before)
        || n(now.ready_replicas) > n(before.ready_replicas)
        || n(now.available_replicas) > n(before.available_replicas)
}

/// True if nothing has moved for longer than the progress deadline.
fn has_timed_out(observed: &Observed, status: &DeploymentStatus) -> bool {
    let Some(deadline) = observed.progress_deadline() else { return false };
    let Some(current) = conditions::find(status.conditions.as_ref(), PROGRESSING) else { return false };
    match current.reason.as_deref() {
        Some(NEW_RS_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => current
            .last_update_time
            .as_ref()
            .is_some_and(|t| time::plus_seconds(t.0, i64::from(deadline)) < observed.now),
    }
}

/// The status of a rollout: counts, how it gets on, and what keeps its replica sets from making pods.
pub fn rollout_status(observed: &Observed, noted: DeploymentStatus) -> DeploymentStatus {
    let before = observed.status();
    let mut status = counts(observed, noted);
    if observed.progress_deadline().is_none() {
        conditions::remove(&mut status.conditions, PROGRESSING);
    }
    let current = conditions::find(status.conditions.as_ref(), PROGRESSING).cloned();
    let settled = status.replicas == status.updated_replicas
        && current.as_ref().is_some_and(|c| c.reason.as_deref() == Some(NEW_RS_AVAILABLE));
    if observed.progress_deadline().is_some() && !settled {
        let what = match &observed.new {
            Some(rs) => format!("ReplicaSet {:?}", rs.metadata.name.as_deref().unwrap_or_default()),
            None => format!("Deployment {:?}", observed.name()),
        };
        if is_complete(observed, &status) {
            let text = format!("{what} has successfully progressed.");
            set(&mut status, progressing("True", NEW_RS_AVAILABLE, text, observed.now));
        } else if has_progressed(&before, &status) {
            let mut next = progressing("True", UPDATED, format!("{what} is progressing."), observed.now);
            if let Some(current) = current.filter(|c| c.status == "True") {
                next.last_transition_time = current.last_transition_time;
            }
            // Taken away first: the time of the update counts even if status and reason are the same.
            conditions::remove(&mut status.conditions, PROGRESSING);
            set(&mut status, next);
        } else if has_timed_out(observed, &status) {
            let text = format!("{what} has timed out progressing.");
            set(&mut status, progressing("False", TIMED_OUT, text, observed.now));
        }
    }
    match replica_failure(observed) {
        Some(failure) => set(&mut status, failure),
        None => conditions::remove(&mut status.conditions, REPLICA_FAILURE),
    }
    status
}

/// What keeps the new replica set, or else an old one, from its number of pods.
fn replica_failure(observed: &Observed) -> Option<DeploymentCondition> {
    let failure =
        |rs: &ReplicaSet| conditions::find(rs.status.as_ref()?.conditions.as_ref(), REPLICA_FAILURE).cloned();
    let found = observed.new.as_ref().and_then(|rs| failure(rs));
    let found = found.or_else(|| observed.old.iter().find_map(|rs| failure(rs)))?;
    Some(DeploymentCondition {
        type_: REPLICA_FAILURE.to_owned(),
        status: found.status,
        reason: found.reason,
        message: found.message,
        last_update_time: found.last_transition_time.clone(),
        last_transition_time: found.last_transition_time,
    })
}

/// When to look whether the rollout has timed out; None if it cannot.
pub fn stuck_check(observed: &Observed, status: &DeploymentStatus) -> Option<Duration> {
    let deadline = observed.progress_deadline()?;
    let current = conditions::find(status.conditions.as_ref(), PROGRESSING)?;
    if is_complete(observed, status) || current.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    let last = current.last_update_time.as_ref()?.0;
    // One more second, so that the deadline has passed by then for sure.
    Some(
        time::until(observed.now, time::plus_seconds(last, i64::from(deadline) + 1))
            .max(Duration::from_secs(1)),
    )
}
