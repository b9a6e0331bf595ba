//! How far a rolling update may go in one step.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::observed::{Observed, available, is_recreate, size};
use super::plan::{Action, scale_to};

/// The size that the new replica set may grow to from `current` within maxSurge.
pub fn room_for_new(observed: &Observed, current: i32) -> i32 {
    if is_recreate(&observed.deployment) {
        return observed.replicas();
    }
    let total: i32 = observed.all().map(|rs| size(rs)).sum();
    if total >= observed.max_total() {
        return current;
    }
    current + (observed.max_total() - total).min(observed.replicas() - current)
}

/// The size that the new replica set is to have next, when it is another.
pub fn size_of_new(observed: &Observed, new: &ReplicaSet) -> Option<i32> {
    let current = size(new);
    let to =
        if current > observed.replicas() { observed.replicas() } else { room_for_new(observed, current) };
    (to != current).then_some(to)
}

/// Takes pods from the old replica sets: first those that are not available anyway, then as many as maxUnavailable allows.
pub fn shrink_old(observed: &Observed, new: &ReplicaSet) -> Vec<Action> {
    let old: Vec<&Arc<ReplicaSet>> = observed.old.iter().filter(|rs| size(rs) > 0).collect();
    if old.is_empty() {
        return Vec::new();
    }
    let min_available = observed.replicas() - observed.max_unavailable;
    let total: i32 = observed.all().map(|rs| size(rs)).sum();
    let new_unavailable = size(new) - available(new);
    let removable = total - min_available - new_unavailable;
    if removable <= 0 {
        return Vec::new();
    }
    let mut sizes: HashMap<usize, i32> = HashMap::new();
    let mut removed = 0;
    for (i, rs) in old.iter().enumerate() {
        let unhealthy = (size(rs) - available(rs)).clamp(0, removable - removed);
        sizes.insert(i, size(rs) - unhealthy);
        removed += unhealthy;
    }
    let mut spare = observed.all().map(|rs| available(rs)).sum::<i32>() - min_available;
    for (i, _) in old.iter().enumerate() {
        let left = sizes.get(&i).copied().unwrap_or(0);
        let taken = left.min(spare).max(0);
        sizes.insert(i, left - taken);
        spare -= taken;
    }
    let to = |(i, rs): (usize, &&Arc<ReplicaSet>)| scale_to(observed, rs, sizes.get(&i).copied()?);
    old.iter().enumerate().filter_map(to).collect()
}
