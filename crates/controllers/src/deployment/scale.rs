//! Spreading a change of a deployment's size over its replica sets.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::annotations;
use super::observed::{Observed, age_key, available, is_recreate, size};
use super::plan::{Action, scale_to};

/// Scales without moving pods between templates: in proportion when a rollout is under way.
pub fn scale(observed: &Observed, actions: &mut Vec<Action>) {
    if let Some(only) = active_or_latest(observed) {
        actions.extend(resize(observed, only, observed.replicas()));
        return;
    }
    if observed.new.as_ref().is_some_and(|new| is_saturated(observed, new)) {
        let old = observed.old.iter().filter(|rs| size(rs) > 0);
        actions.extend(old.filter_map(|rs| scale_to(observed, rs, 0)));
        return;
    }
    if !is_recreate(&observed.deployment) {
        proportionally(observed, actions);
    }
}

/// The only replica set with pods; without any the new one, else the latest. None if several have pods.
fn active_or_latest(observed: &Observed) -> Option<&Arc<ReplicaSet>> {
    let active: Vec<&Arc<ReplicaSet>> = observed.all().filter(|rs| size(rs) > 0).collect();
    match active.as_slice() {
        [] => observed.new.as_ref().or_else(|| observed.old.iter().max_by_key(|rs| age_key(rs))),
        [one] => Some(*one),
        _ => None,
    }
}

fn is_saturated(observed: &Observed, new: &ReplicaSet) -> bool {
    let desired = observed.replicas();
    annotations::desired_replicas(new) == Some(desired) && size(new) == desired && available(new) == desired
}

fn proportionally(observed: &Observed, actions: &mut Vec<Action>) {
    let mut active: Vec<&Arc<ReplicaSet>> = observed.all().filter(|rs| size(rs) > 0).collect();
    let total: i32 = active.iter().map(|rs| size(rs)).sum();
    let allowed = if observed.replicas() > 0 { observed.max_total() } else { 0 };
    let to_add = allowed - total;
    // The largest gets the rounding's remainder; of equals the newer grows and the older shrinks first.
    active.sort_by_key(|rs| age_key(rs));
    if to_add > 0 {
        active.reverse();
    }
    active.sort_by_key(|rs| Reverse(size(rs)));
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
    for rs in &active {
        let share = if to_add == 0 { 0 } else { proportion(observed, rs, to_add, added) };
        added += share;
        sizes.push(size(rs) + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    let resized = active.iter().zip(sizes).filter_map(|(rs, to)| resize(observed, rs, to));
    actions.extend(resized);
}

/// Writes the size annotations too, even if the size stays: they say that this change was carried out.
fn resize(observed: &Observed, rs: &Arc<ReplicaSet>, to: i32) -> Option<Action> {
    scale_to(observed, rs, to).or_else(|| {
        let mut noted = ReplicaSet::clone(rs);
        annotations::note_size(&mut noted.metadata, observed.replicas(), observed.max_total())
            .then(|| Action::Update(Box::new(noted)))
    })
}

fn proportion(observed: &Observed, rs: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    if size(rs) == 0 || to_add == added {
        return 0;
    }
    let share = fraction(observed, rs);
    let left = to_add - added;
    if to_add > 0 { share.min(left) } else { share.max(left) }
}

/// By how much `rs` changes when the whole changes from what it was to what it may be now.
fn fraction(observed: &Observed, rs: &ReplicaSet) -> i32 {
    if observed.replicas() == 0 {
        return -size(rs);
    }
    let before = annotations::max_replicas(rs).unwrap_or_else(|| observed.status().replicas.unwrap_or(0));
    if before == 0 {
        return 0;
    }
    let scaled = f64::from(size(rs)) * f64::from(observed.max_total()) / f64::from(before);
    scaled.round() as i32 - size(rs)
}
