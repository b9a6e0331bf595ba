//! InterPodAffinity: pods that want to be, or must be, near other pods or away from them.

mod score;
mod term;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use crate::framework::{
    Action, ClusterEvent, CycleState, Filter, Plugin, Points, PreFilter, PreFilterResult, Resource, Status,
    Verdict,
};
use crate::lister::Lister;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;
use term::{Direction, Term, required};

const AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const EXISTING: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// Compares affinity terms with the pods that run.
pub struct InterPodAffinity {
    lister: Arc<dyn Lister>,
}

impl InterPodAffinity {
    /// Looks namespaces up in `lister`.
    pub fn new(lister: Arc<dyn Lister>) -> Self {
        Self { lister }
    }
}

/// How many pods count in a domain: a label of nodes with its value.
type Counts = HashMap<(String, String), i64>;

/// What the filter needs to know, counted once per pod.
#[derive(Debug, Clone, Default)]
struct Counted {
    affinity: Vec<Term>,
    anti_affinity: Vec<Term>,
    /// Pods that match all affinity terms of the pod.
    near: Counts,
    /// Pods that match an anti-affinity term of the pod.
    away: Counts,
    /// Pods with an anti-affinity term that matches the pod.
    existing: Counts,
}

impl Counted {
    /// Counts `other` on `node`, or uncounts it with a `sign` of -1.
    fn count(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, sign: i64, lister: &dyn Lister) {
        if other.has_required_anti_affinity {
            for term in required(other, Direction::Away) {
                if term.matches(pod, lister) {
                    add(&mut self.existing, node, &term.topology_key, sign);
                }
            }
        }
        if !self.affinity.is_empty() && self.affinity.iter().all(|term| term.matches(other, lister)) {
            for term in &self.affinity {
                add(&mut self.near, node, &term.topology_key, sign);
            }
        }
        for term in &self.anti_affinity {
            if term.matches(other, lister) {
                add(&mut self.away, node, &term.topology_key, sign);
            }
        }
    }
}

fn add(counts: &mut Counts, node: &NodeInfo, key: &str, sign: i64) {
    let Some(value) = node.label(key) else { return };
    let domain = (key.to_owned(), value.to_owned());
    let count = counts.entry(domain.clone()).or_default();
    *count += sign;
    if *count == 0 {
        counts.remove(&domain);
    }
}

fn in_domain(counts: &Counts, node: &NodeInfo, key: &str) -> bool {
    let Some(value) = node.label(key) else { return false };
    counts.get(&(key.to_owned(), value.to_owned())).is_some_and(|count| *count > 0)
}

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn points(self: Arc<Self>) -> Points {
        Points {
            pre_filter: Some(self.clone()),
            filter: Some(self.clone()),
            pre_score: Some(self.clone()),
            score: Some(self),
            ..Points::default()
        }
    }

    fn events(&self) -> Vec<ClusterEvent> {
        let pods = Action::ADD.or(Action::DELETE).or(Action::UPDATE_LABEL);
        vec![
            ClusterEvent::new(Resource::AssignedPod, pods),
            ClusterEvent::new(Resource::UnscheduledPod, Action::UPDATE_LABEL),
            ClusterEvent::new(Resource::Node, Action::ADD.or(Action::UPDATE_LABEL).or(Action::UPDATE_TAINT)),
        ]
    }
}

impl PreFilter for InterPodAffinity {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        let mut counted = Counted {
            affinity: required(pod, Direction::Near),
            anti_affinity: required(pod, Direction::Away),
            ..Counted::default()
        };
        let own_terms = !counted.affinity.is_empty() || !counted.anti_affinity.is_empty();
        for node in nodes.nodes() {
            for other in node.pods.iter().filter(|other| own_terms || other.has_required_anti_affinity) {
                counted.count(pod, other, node, 1, self.lister.as_ref());
            }
        }
        let skip = !own_terms && counted.existing.is_empty();
        state.put(counted);
        Ok(PreFilterResult { skip, nodes: None })
    }

    fn what_if(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, added: bool) {
        if let Some(counted) = state.get_mut::<Counted>() {
            counted.count(pod, other, node, if added { 1 } else { -1 }, self.lister.as_ref());
        }
    }
}

impl Filter for InterPodAffinity {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let Some(counted) = state.get::<Counted>() else { return Ok(()) };
        if !self.is_near(counted, pod, node) {
            return Err(Status::unresolvable(AFFINITY));
        }
        if counted.anti_affinity.iter().any(|term| in_domain(&counted.away, node, &term.topology_key)) {
            return Err(Status::unschedulable(ANTI_AFFINITY));
        }
        let labels = node.node.metadata.labels.iter().flatten();
        let mut domains = labels.map(|(key, value)| (key.clone(), value.clone()));
        if domains.any(|domain| counted.existing.get(&domain).is_some_and(|count| *count > 0)) {
            return Err(Status::unschedulable(EXISTING));
        }
        Ok(())
    }
}

impl InterPodAffinity {
    /// The first pod of a group that wants to be together has nobody to be near to yet.
    fn is_near(&self, counted: &Counted, pod: &PodInfo, node: &NodeInfo) -> bool {
        if counted.affinity.iter().any(|term| node.label(&term.topology_key).is_none()) {
            return false;
        }
        if counted.affinity.iter().all(|term| in_domain(&counted.near, node, &term.topology_key)) {
            return true;
        }
        counted.near.is_empty() && counted.affinity.iter().all(|term| term.matches(pod, self.lister.as_ref()))
    }
}
