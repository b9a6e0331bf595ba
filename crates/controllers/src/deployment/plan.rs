//! One step of a deployment towards its template and size.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::observed::{HASH_LABEL, Observed, is_recreate, size};
use super::{annotations, progress, rolling, scale};
use crate::common::hash::object_hash;
use crate::common::numbers::NotAPercentage;
use crate::common::{conditions, owner};

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub struct Plan {
    /// Writes of replica sets.
    pub actions: Vec<Action>,
    /// The deployment's status, when it changes.
    pub status: Option<DeploymentStatus>,
    /// The deployment's revision annotation, when it changes.
    pub revision: Option<String>,
    /// When to look again though nothing changes.
    pub requeue: Option<Duration>,
}

/// A write of a replica set.
#[derive(Debug)]
pub enum Action {
    /// Make the replica set of the current template.
    Create(Box<ReplicaSet>),
    /// Write annotations or minReadySeconds of a replica set.
    Update(Box<ReplicaSet>),
    /// Change the size of a replica set, from what it is to `spec.replicas` of this one.
    Scale {
        /// As cached.
        from: Arc<ReplicaSet>,
        /// As wanted.
        to: Box<ReplicaSet>,
    },
    /// Delete a replica set that history has no room for.
    Delete(Arc<ReplicaSet>),
}

/// What moves the deployment one step.
pub fn plan(observed: &Observed) -> Result<Plan, NotAPercentage> {
    let mut status = observed.status();
    if observed.deployment.metadata.deletion_timestamp.is_some() {
        return Ok(with_status(observed, Plan::default(), status));
    }
    if progress::note_pause(observed, &mut status) {
        // The next step is planned from the deployment that says so.
        return Ok(Plan { status: Some(status), ..Plan::default() });
    }
    let paused = observed.spec.paused == Some(true);
    if paused || is_scaling(observed) {
        let mut plan = Plan::default();
        let changed =
            observed.new.as_ref().is_some_and(|new| keep_new(observed, new, &mut plan, &mut status));
        if changed {
            return Ok(with_status(observed, plan, status));
        }
        scale::scale(observed, &mut plan.actions);
        if paused {
            clean_up(observed, &mut plan.actions);
        }
        return Ok(with_status(observed, plan, status));
    }
    Ok(if is_recreate(&observed.deployment) { recreate(observed, status) } else { roll(observed, status) })
}

/// A change of the deployment's size is carried out before a rollout goes on.
fn is_scaling(observed: &Observed) -> bool {
    observed
        .all()
        .filter(|rs| size(rs) > 0)
        .any(|rs| annotations::desired_replicas(rs).is_some_and(|desired| desired != observed.replicas()))
}

fn roll(observed: &Observed, mut status: DeploymentStatus) -> Plan {
    let mut plan = Plan::default();
    let Some(new) = &observed.new else {
        create_new(observed, &mut plan, &mut status);
        return with_progress(observed, plan, status);
    };
    if keep_new(observed, new, &mut plan, &mut status) {
        return with_progress(observed, plan, status);
    }
    if let Some(to) = rolling::size_of_new(observed, new) {
        plan.actions.extend(scale_to(observed, new, to));
        return with_progress(observed, plan, status);
    }
    plan.actions.extend(rolling::shrink_old(observed, new));
    if plan.actions.is_empty() && progress::is_complete(observed, &observed.status()) {
        clean_up(observed, &mut plan.actions);
    }
    with_progress(observed, plan, status)
}

fn recreate(observed: &Observed, mut status: DeploymentStatus) -> Plan {
    let mut plan = Plan::default();
    let changed = observed.new.as_ref().is_some_and(|new| keep_new(observed, new, &mut plan, &mut status));
    if changed {
        return with_progress(observed, plan, status);
    }
    for old in observed.old.iter().filter(|rs| size(rs) > 0) {
        plan.actions.extend(scale_to(observed, old, 0));
    }
    if !plan.actions.is_empty() || observed.old_pods_run {
        return with_progress(observed, plan, status);
    }
    match &observed.new {
        None => create_new(observed, &mut plan, &mut status),
        Some(new) => {
            plan.actions.extend(scale_to(observed, new, observed.replicas()));
            if plan.actions.is_empty() && progress::is_complete(observed, &observed.status()) {
                clean_up(observed, &mut plan.actions);
            }
        }
    }
    with_progress(observed, plan, status)
}

/// Brings the existing replica set of the current template up to date. True if it must be written first.
fn keep_new(
    observed: &Observed,
    new: &Arc<ReplicaSet>,
    plan: &mut Plan,
    status: &mut DeploymentStatus,
) -> bool {
    let mut updated = ReplicaSet::clone(new);
    let revision = next_revision(observed);
    let mut changed = annotations::note_revision(&mut updated.metadata, &observed.deployment, revision);
    let spec = updated.spec.get_or_insert_default();
    let wanted = observed.spec.min_ready_seconds.unwrap_or(0);
    if spec.min_ready_seconds.unwrap_or(0) != wanted {
        spec.min_ready_seconds = Some(wanted);
        changed = true;
    }
    set_revision(observed, annotations::revision(&updated.metadata), plan);
    if observed.progress_deadline().is_some()
        && conditions::find(status.conditions.as_ref(), progress::PROGRESSING).is_none()
    {
        let text =
            format!("Found new replica set {:?}", updated.metadata.name.as_deref().unwrap_or_default());
        let condition = progress::progressing("True", "FoundNewReplicaSet", text, observed.now);
        progress::set(status, condition);
    }
    if changed {
        plan.actions.push(Action::Update(Box::new(updated)));
    }
    changed
}

/// One more than the highest revision of an old replica set.
fn next_revision(observed: &Observed) -> i64 {
    observed.old.iter().map(|rs| annotations::revision(&rs.metadata)).max().unwrap_or(0) + 1
}

fn set_revision(observed: &Observed, revision: i64, plan: &mut Plan) {
    if annotations::revision(&observed.deployment.metadata) != revision {
        plan.revision = Some(revision.to_string());
    }
}

fn create_new(observed: &Observed, plan: &mut Plan, status: &mut DeploymentStatus) {
    let revision = next_revision(observed);
    let rs = new_replica_set(observed, revision);
    set_revision(observed, revision, plan);
    if observed.progress_deadline().is_some() {
        let text = format!("Created new replica set {:?}", rs.metadata.name.as_deref().unwrap_or_default());
        let condition = progress::progressing("True", "NewReplicaSetCreated", text, observed.now);
        progress::set(status, condition);
    }
    plan.actions.push(Action::Create(Box::new(rs)));
}

fn new_replica_set(observed: &Observed, revision: i64) -> ReplicaSet {
    let mut template = observed.spec.template.clone();
    let hash = object_hash(&template, observed.status().collision_count);
    let label = |labels: &mut Option<std::collections::BTreeMap<String, String>>| {
        labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    };
    let meta = template.metadata.get_or_insert_default();
    label(&mut meta.labels);
    let labels = meta.labels.clone();
    let mut selector = observed.spec.selector.clone();
    label(&mut selector.match_labels);
    let mut metadata = ObjectMeta {
        name: Some(format!("{}-{hash}", observed.name())),
        namespace: observed.deployment.metadata.namespace.clone(),
        labels,
        owner_references: Some(vec![owner::controller_reference(observed.deployment.as_ref())]),
        ..ObjectMeta::default()
    };
    annotations::note_revision(&mut metadata, &observed.deployment, revision);
    annotations::note_size(&mut metadata, observed.replicas(), observed.max_total());
    let spec = ReplicaSetSpec {
        replicas: Some(rolling::room_for_new(observed, 0)),
        min_ready_seconds: observed.spec.min_ready_seconds.filter(|s| *s != 0),
        selector,
        template: Some(template),
    };
    ReplicaSet { metadata, spec: Some(spec), status: None }
}

/// Gives `rs` the size `to`; nothing when it has it. The size annotations are noted only along with a change.
pub fn scale_to(observed: &Observed, rs: &Arc<ReplicaSet>, to: i32) -> Option<Action> {
    if size(rs) == to {
        return None;
    }
    let mut scaled = ReplicaSet::clone(rs);
    annotations::note_size(&mut scaled.metadata, observed.replicas(), observed.max_total());
    scaled.spec.get_or_insert_default().replicas = Some(to);
    Some(Action::Scale { from: rs.clone(), to: Box::new(scaled) })
}

/// Deletes the oldest revisions that are scaled down, until no more than the history limit are left.
fn clean_up(observed: &Observed, actions: &mut Vec<Action>) {
    let Some(limit) = observed.spec.revision_history_limit.filter(|l| *l != i32::MAX) else { return };
    let mut alive: Vec<&Arc<ReplicaSet>> =
        observed.old.iter().filter(|rs| rs.metadata.deletion_timestamp.is_none()).collect();
    let excess = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    alive.sort_by_key(|rs| annotations::revision(&rs.metadata));
    for rs in alive.into_iter().take(excess) {
        let status = rs.status.clone().unwrap_or_default();
        let seen = rs.metadata.generation.unwrap_or(0) <= status.observed_generation.unwrap_or(0);
        if status.replicas == 0 && size(rs) == 0 && seen {
            actions.push(Action::Delete(rs.clone()));
        }
    }
}

/// The status of a deployment that is not being rolled out.
fn with_status(observed: &Observed, mut plan: Plan, noted: DeploymentStatus) -> Plan {
    let status = progress::counts(observed, noted);
    plan.status = (status != observed.status()).then_some(status);
    plan
}

/// The status of a deployment that is being rolled out, with how that goes.
fn with_progress(observed: &Observed, mut plan: Plan, noted: DeploymentStatus) -> Plan {
    let status = progress::rollout_status(observed, noted);
    plan.requeue = progress::stuck_check(observed, &status);
    plan.status = (status != observed.status()).then_some(status);
    plan
}
