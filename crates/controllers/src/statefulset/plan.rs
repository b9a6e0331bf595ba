//! One step of a StatefulSet: which pods are made, deleted or put right, in the order that its policies ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::jiff::Timestamp;

use super::identity;
use crate::common::history::REVISION_LABEL;
use crate::common::numbers::{NotAPercentage, Round, scaled};
use crate::common::pods;

/// A revision of the set: its name and template.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Name of the ControllerRevision.
    pub name: String,
    /// The template that it keeps.
    pub template: PodTemplateSpec,
}

/// A StatefulSet with its pods and claims.
pub struct Observed<'a> {
    /// The set.
    pub set: &'a StatefulSet,
    /// The pods that it controls.
    pub pods: &'a [Arc<Pod>],
    /// The revision that pods below the partition have.
    pub current: Revision,
    /// The revision that pods are updated to.
    pub update: Revision,
    /// Hashes that have collided.
    pub collision_count: Option<i32>,
    /// A claim of the namespace, as cached.
    pub claim: &'a (dyn Fn(&str) -> Option<Arc<PersistentVolumeClaim>> + Sync),
    /// The wall clock.
    pub now: Timestamp,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Make the pod, after those of its claims that do not exist.
    Create(Box<Pod>, Vec<PersistentVolumeClaim>),
    /// Make the claims that a pending pod lacks.
    CreateClaims(Box<Pod>, Vec<PersistentVolumeClaim>),
    /// Delete the pod; if it has ended, saying so: reason and what it is called.
    Delete(Arc<Pod>, Option<(&'static str, &'static str)>),
    /// Put the pod's name, labels and volumes right.
    Update(Box<Pod>),
    /// Put a claim's owners right.
    UpdateClaim(Box<PersistentVolumeClaim>),
}

/// The actions and the status of a step.
#[derive(Debug)]
pub struct Plan {
    /// To be done in this order, until one fails.
    pub actions: Vec<Action>,
    /// To be written afterwards.
    pub status: StatefulSetStatus,
}

impl Observed<'_> {
    fn spec(&self) -> StatefulSetSpec {
        self.set.spec.clone().unwrap_or_default()
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let seconds = self.set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0);
        is_running_and_ready(pod) && pods::is_available(pod, seconds, self.now)
    }
}

fn is_running_and_ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

fn is_leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn revision_of(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|l| l.get(REVISION_LABEL)).map_or("", String::as_str)
}

fn ordinal_of(pod: &Pod) -> i32 {
    identity::parse(pods::name(pod)).map_or(-1, |(_, ordinal)| ordinal)
}

/// What the set has to do next.
pub fn plan(observed: &Observed<'_>) -> Result<Plan, NotAPercentage> {
    let spec = observed.spec();
    let start = spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0);
    let end = start + spec.replicas.unwrap_or(1);
    let mut present: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
    let mut condemned = Vec::new();
    for pod in observed.pods {
        let ordinal = ordinal_of(pod);
        if (start..end).contains(&ordinal) {
            present.insert(ordinal, pod.clone());
        } else if ordinal >= 0 {
            condemned.push(pod.clone());
        }
    }
    condemned.sort_by_key(|pod| -ordinal_of(pod));
    let mut actions = Vec::new();
    if observed.set.metadata.deletion_timestamp.is_none() {
        let settled = keep(observed, &spec, start, end, &present, &mut actions)
            && shrink(observed, &spec, &present, &condemned, &mut actions);
        if settled && actions.iter().all(|a| matches!(a, Action::UpdateClaim(_))) {
            update(observed, &spec, start, &present, &mut actions)?;
        }
    }
    let status = status(observed, &spec, &actions);
    Ok(Plan { actions, status })
}

/// One at a time, each after the one before is available.
fn is_ordered(spec: &StatefulSetSpec) -> bool {
    spec.pod_management_policy.as_deref() != Some("Parallel")
}

/// Makes missing pods, replaces ended ones and puts wrong ones right. False if later steps have to wait.
fn keep(
    observed: &Observed<'_>,
    spec: &StatefulSetSpec,
    start: i32,
    end: i32,
    present: &BTreeMap<i32, Arc<Pod>>,
    actions: &mut Vec<Action>,
) -> bool {
    let ordered = is_ordered(spec);
    let mut waits = false;
    for ordinal in start..end {
        let Some(pod) = present.get(&ordinal) else {
            actions.push(create(observed, spec, start, ordinal));
            waits = true;
            if ordered {
                return false;
            }
            continue;
        };
        if pods::is_finished(pod) {
            if !is_leaving(pod) {
                let failed = pods::phase(pod) == "Failed";
                let said = if failed {
                    ("RecreatingFailedPod", "failed")
                } else {
                    ("RecreatingTerminatedPod", "succeeded")
                };
                actions.push(Action::Delete(pod.clone(), Some(said)));
            }
            waits = true;
            if ordered {
                return false;
            }
            continue;
        }
        if pods::phase(pod) == "Pending" {
            let missing = missing_claims(observed, pod, ordinal);
            if !missing.is_empty() {
                actions.push(Action::CreateClaims(Box::new(Pod::clone(pod)), missing));
            }
        }
        if ordered && (is_leaving(pod) || !observed.is_available(pod)) {
            return false;
        }
        put_right(observed, pod, ordinal, false, actions);
    }
    !waits || !ordered
}

fn create(observed: &Observed<'_>, spec: &StatefulSetSpec, start: i32, ordinal: i32) -> Action {
    let rolling = spec.update_strategy.as_ref().filter(|s| s.type_.as_deref() != Some("OnDelete"));
    let partition = rolling.and_then(|s| s.rolling_update.as_ref()).and_then(|r| r.partition);
    let is_rolling = spec.update_strategy.as_ref().is_none_or(|s| s.type_.as_deref() != Some("OnDelete"));
    let current_count = observed.set.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0);
    let below = match rolling.and_then(|s| s.rolling_update.as_ref()) {
        Some(_) => ordinal < start + partition.unwrap_or(0),
        None => ordinal < start + current_count,
    };
    let revision = if is_rolling && below { &observed.current } else { &observed.update };
    let pod = identity::new_pod(observed.set, &revision.template, &revision.name, ordinal);
    let missing = missing_claims(observed, &pod, ordinal);
    Action::Create(Box::new(pod), missing)
}

fn missing_claims(observed: &Observed<'_>, pod: &Pod, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    identity::claims(observed.set, ordinal)
        .iter()
        .filter(|claim| (observed.claim)(&claim.name).is_none())
        .map(|claim| identity::new_claim(observed.set, claim, pod, false))
        .collect()
}

fn put_right(
    observed: &Observed<'_>,
    pod: &Arc<Pod>,
    ordinal: i32,
    is_condemned: bool,
    actions: &mut Vec<Action>,
) {
    if !is_condemned {
        let mut right = Pod::clone(pod);
        if identity::identify(observed.set, &mut right, ordinal) {
            actions.push(Action::Update(Box::new(right)));
        }
    }
    for claim in identity::claims(observed.set, ordinal) {
        let Some(known) = (observed.claim)(&claim.name) else { continue };
        if let Some(owners) = identity::owners_of_claim(observed.set, pod, &known, is_condemned) {
            let mut right = PersistentVolumeClaim::clone(&known);
            right.metadata.owner_references = Some(owners);
            actions.push(Action::UpdateClaim(Box::new(right)));
        }
    }
}

/// Deletes pods that are too many, the highest ordinal first. False if later steps have to wait.
fn shrink(
    observed: &Observed<'_>,
    spec: &StatefulSetSpec,
    present: &BTreeMap<i32, Arc<Pod>>,
    condemned: &[Arc<Pod>],
    actions: &mut Vec<Action>,
) -> bool {
    for pod in condemned {
        put_right(observed, pod, ordinal_of(pod), true, actions);
    }
    let healthy = |pod: &Pod| is_running_and_ready(pod) && !is_leaving(pod);
    let first_unhealthy = present.values().chain(condemned.iter().rev()).find(|pod| !healthy(pod));
    for pod in condemned {
        if is_leaving(pod) {
            if is_ordered(spec) {
                return false;
            }
            continue;
        }
        let is_first = first_unhealthy.is_some_and(|first| Arc::ptr_eq(first, pod));
        if is_ordered(spec) && !observed.is_available(pod) && !is_first {
            return false;
        }
        actions.push(Action::Delete(pod.clone(), None));
        if is_ordered(spec) {
            return false;
        }
    }
    condemned.is_empty() || !is_ordered(spec)
}

/// Deletes pods of an old revision, from the highest ordinal down to the partition, within maxUnavailable.
fn update(
    observed: &Observed<'_>,
    spec: &StatefulSetSpec,
    start: i32,
    present: &BTreeMap<i32, Arc<Pod>>,
    actions: &mut Vec<Action>,
) -> Result<(), NotAPercentage> {
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    if strategy.type_.as_deref() == Some("OnDelete") {
        return Ok(());
    }
    let rolling = strategy.rolling_update.unwrap_or_default();
    let replicas = spec.replicas.unwrap_or(1);
    let most = match &rolling.max_unavailable {
        Some(value) => scaled(value, replicas, Round::Down)?.max(1),
        None => 1,
    };
    let unavailable = present.values().filter(|pod| is_leaving(pod) || !observed.is_available(pod)).count();
    let mut room = most - unavailable as i32;
    let first = start + rolling.partition.unwrap_or(0);
    for (_, pod) in present.iter().rev().filter(|(ordinal, _)| **ordinal >= first) {
        let is_old = revision_of(pod) != observed.update.name;
        if is_old && !is_leaving(pod) {
            // A pod that is unavailable already costs nothing, but others of its kind go first come first.
            let is_free = !observed.is_available(pod);
            if room <= 0 && !is_free {
                return Ok(());
            }
            actions.push(Action::Delete(pod.clone(), None));
            room -= i32::from(!is_free);
            if most == 1 {
                return Ok(());
            }
        } else if most == 1 && (is_leaving(pod) || !observed.is_available(pod)) {
            return Ok(());
        }
    }
    Ok(())
}

fn status(observed: &Observed<'_>, spec: &StatefulSetSpec, actions: &[Action]) -> StatefulSetStatus {
    let before = observed.set.status.clone().unwrap_or_default();
    let deleted = |pod: &Pod| {
        actions.iter().any(|a| matches!(a, Action::Delete(d, _) if d.metadata.uid == pod.metadata.uid))
    };
    let made: Vec<&str> = actions
        .iter()
        .filter_map(|a| if let Action::Create(pod, _) = a { Some(revision_of(pod)) } else { None })
        .collect();
    let live: Vec<&Arc<Pod>> = observed.pods.iter().collect();
    let count = |keep: &dyn Fn(&Pod) -> bool| live.iter().filter(|p| keep(p)).count() as i32;
    let of_revision = |name: &str| {
        count(&|p| !is_leaving(p) && !deleted(p) && revision_of(p) == name)
            + made.iter().filter(|r| **r == name).count() as i32
    };
    let mut status = StatefulSetStatus {
        observed_generation: observed.set.metadata.generation,
        replicas: live.len() as i32 + made.len() as i32,
        ready_replicas: Some(count(&|p| is_running_and_ready(p))),
        available_replicas: Some(count(&|p| observed.is_available(p))),
        current_replicas: Some(of_revision(&observed.current.name)),
        updated_replicas: Some(of_revision(&observed.update.name)),
        current_revision: Some(observed.current.name.clone()),
        update_revision: Some(observed.update.name.clone()),
        collision_count: Some(observed.collision_count.unwrap_or(0)),
        conditions: before.conditions,
    };
    let wanted = Some(spec.replicas.unwrap_or(1));
    let is_rolling = spec.update_strategy.as_ref().is_none_or(|s| s.type_.as_deref() != Some("OnDelete"));
    let complete = status.updated_replicas == wanted
        && status.ready_replicas == wanted
        && Some(status.replicas) == wanted;
    if is_rolling && complete {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
    let nothing = |count: Option<i32>| count.filter(|c| *c != 0);
    status.ready_replicas = nothing(status.ready_replicas);
    status.current_replicas = nothing(status.current_replicas);
    status.updated_replicas = nothing(status.updated_replicas);
    status
}
