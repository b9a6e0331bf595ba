//! Which pods of a node have to go for another: as few and unimportant ones as possible.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;

use super::super::labels::selects;
use crate::framework::{CycleState, Profile, Status};
use crate::lister::Lister;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;

/// The pods that would have to leave a node.
#[derive(Debug, Clone)]
pub struct Victims {
    /// The node.
    pub node: String,
    /// The pods, the most important first.
    pub pods: Vec<Arc<PodInfo>>,
    /// How many of them a disruption budget protects.
    pub violations: usize,
}

/// When a pod began to run; one that does not yet is the youngest.
pub fn started(pod: &PodInfo) -> Timestamp {
    let time = pod.pod.status.as_ref().and_then(|s| s.start_time.as_ref());
    time.map_or(Timestamp::MAX, |time| time.0)
}

/// The victims on `node`; a refusal if even without all of lower priority `pod` would not fit.
pub fn select(
    profile: &Profile,
    state: &CycleState,
    pod: &PodInfo,
    node: &Arc<NodeInfo>,
    snapshot: &Snapshot,
    lister: &dyn Lister,
) -> Result<Victims, Status> {
    let mut lower: Vec<Arc<PodInfo>> =
        node.pods.iter().filter(|other| other.priority() < pod.priority()).cloned().collect();
    if lower.is_empty() {
        return Err(Status::unresolvable("No preemption victims found for incoming pod"));
    }
    let (mut state, mut left) = (state.clone(), NodeInfo::clone(node));
    for other in &lower {
        left.remove_pod(other.uid());
        profile.run_what_if(&mut state, pod, other, &left, false);
    }
    let nominated = snapshot.nominated(node.name());
    profile.run_filter_with_nominated(&state, pod, &left, nominated)?;
    lower.sort_by_key(|other| (Reverse(other.priority()), started(other)));
    let protected = protected(&lower, lister);
    let mut victims = Victims { node: node.name().to_owned(), pods: Vec::new(), violations: 0 };
    // Protected ones are spared first, then the more important ones.
    let order = lower.iter().zip(&protected).filter(|(_, p)| **p);
    for (other, is_protected) in order.chain(lower.iter().zip(&protected).filter(|(_, p)| !**p)) {
        left.add_pod(other.clone());
        profile.run_what_if(&mut state, pod, other, &left, true);
        if profile.run_filter_with_nominated(&state, pod, &left, nominated).is_ok() {
            continue;
        }
        left.remove_pod(other.uid());
        profile.run_what_if(&mut state, pod, other, &left, false);
        victims.pods.push(other.clone());
        victims.violations += usize::from(*is_protected);
    }
    victims.pods.sort_by_key(|other| (Reverse(other.priority()), started(other)));
    Ok(victims)
}

/// For each pod whether its eviction, after those before it, would break a disruption budget.
fn protected(pods: &[Arc<PodInfo>], lister: &dyn Lister) -> Vec<bool> {
    let mut namespaces: Vec<&str> = pods.iter().map(|pod| pod.namespace()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    let mut budgets: Vec<(Arc<PodDisruptionBudget>, i64)> = Vec::new();
    for namespace in namespaces {
        budgets.extend(lister.budgets(namespace).into_iter().map(|budget| {
            let allowed = budget.status.as_ref().map_or(0, |s| i64::from(s.disruptions_allowed.unwrap_or(0)));
            (budget, allowed)
        }));
    }
    let breaks = |pod: &Arc<PodInfo>| {
        let mut broken = false;
        for (budget, allowed) in &mut budgets {
            if !covers(budget, pod) {
                continue;
            }
            *allowed -= 1;
            broken |= *allowed < 0;
        }
        broken
    };
    pods.iter().map(breaks).collect()
}

fn covers(budget: &PodDisruptionBudget, pod: &PodInfo) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let is_empty = selector.is_none_or(|s| s.match_labels.is_none() && s.match_expressions.is_none());
    let counted = budget.status.as_ref().and_then(|s| s.disrupted_pods.as_ref());
    budget.metadata.namespace.as_deref() == Some(pod.namespace())
        && pod.pod.metadata.labels.is_some()
        && !is_empty
        && !counted.is_some_and(|pods| pods.contains_key(pod.name()))
        && selects(selector, pod.pod.metadata.labels.as_ref())
}
