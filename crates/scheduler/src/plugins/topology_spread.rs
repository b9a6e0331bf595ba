//! PodTopologySpread: pods of a group are spread over domains, at most so unevenly (KEP-895).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::labels::selects;
use super::{node_affinity, taint_toleration};
use crate::framework::{
    Action, ClusterEvent, CycleState, Filter, MAX_NODE_SCORE, Plugin, Points, PreFilter, PreFilterResult,
    PreScore, Resource, Score, Status, Verdict,
};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;

const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Compares domains by the pods of a group in them.
pub struct PodTopologySpread;

/// A constraint, made ready.
#[derive(Debug, Clone)]
struct Constraint {
    key: String,
    max_skew: i64,
    min_domains: i64,
    selector: Option<LabelSelector>,
    /// Only nodes count that the pod's node affinity allows.
    honors_affinity: bool,
    /// Only nodes count whose taints the pod tolerates.
    honors_taints: bool,
    /// Pods of the group by the domain's value.
    counts: BTreeMap<String, i64>,
}

impl Constraint {
    fn new(pod: &PodInfo, constraint: &TopologySpreadConstraint) -> Self {
        Self {
            key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew),
            min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
            selector: with_match_labels(pod, constraint),
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            counts: BTreeMap::new(),
        }
    }

    fn counts_node(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        let keeps_off = |effect: &str| effect == "NoSchedule" || effect == "NoExecute";
        (!self.honors_affinity || node_affinity::fits(pod, node))
            && (!self.honors_taints
                || node
                    .taints()
                    .iter()
                    .all(|taint| !keeps_off(&taint.effect) || taint_toleration::tolerates(pod, taint)))
    }

    /// Pods that are on their way out do not count.
    fn is_of_group(&self, pod: &PodInfo, other: &PodInfo) -> bool {
        other.namespace() == pod.namespace()
            && other.pod.metadata.deletion_timestamp.is_none()
            && selects(self.selector.as_ref(), other.pod.metadata.labels.as_ref())
    }

    fn least(&self) -> i64 {
        // Domains that do not exist yet are empty.
        if (self.counts.len() as i64) < self.min_domains {
            return 0;
        }
        self.counts.values().min().copied().unwrap_or(0)
    }
}

/// The selector with the pod's values of `matchLabelKeys` (KEP-3243).
fn with_match_labels(pod: &PodInfo, constraint: &TopologySpreadConstraint) -> Option<LabelSelector> {
    let mut selector = constraint.label_selector.clone()?;
    let labels = pod.pod.metadata.labels.as_ref();
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = labels.and_then(|labels| labels.get(key)) {
            selector.match_expressions.get_or_insert_default().push(LabelSelectorRequirement {
                key: key.clone(),
                operator: "In".to_owned(),
                values: Some(vec![value.clone()]),
            });
        }
    }
    Some(selector)
}

fn constraints(pod: &PodInfo, action: &str) -> Vec<Constraint> {
    let all = pod.spec().and_then(|spec| spec.topology_spread_constraints.as_ref());
    let wanted = all.into_iter().flatten().filter(|c| c.when_unsatisfiable == action);
    wanted.map(|constraint| Constraint::new(pod, constraint)).collect()
}

/// The constraints that must hold, with their counts.
#[derive(Debug, Clone)]
struct Hard(Vec<Constraint>);

/// The constraints that are wished for, with their counts and the weight of their domains' number.
#[derive(Debug, Clone)]
struct Soft(Vec<(Constraint, f64)>);

/// Counts the pods of the group on every node that has all keys.
fn count(constraints: &mut [Constraint], pod: &PodInfo, nodes: &[Arc<NodeInfo>]) {
    let keys: Vec<String> = constraints.iter().map(|c| c.key.clone()).collect();
    for node in nodes.iter().filter(|node| keys.iter().all(|key| node.label(key).is_some())) {
        for constraint in constraints.iter_mut() {
            let Some(value) = node.label(&constraint.key) else { continue };
            if constraint.counts_node(pod, node) {
                let here = node.pods.iter().filter(|other| constraint.is_of_group(pod, other)).count();
                *constraint.counts.entry(value.to_owned()).or_default() += here as i64;
            }
        }
    }
}

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
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
        let nodes = Action::ADD.or(Action::DELETE).or(Action::UPDATE_LABEL).or(Action::UPDATE_TAINT);
        vec![
            ClusterEvent::new(Resource::AssignedPod, pods),
            ClusterEvent::new(Resource::UnscheduledPod, Action::UPDATE_LABEL),
            ClusterEvent::new(Resource::Node, nodes),
        ]
    }
}

impl PreFilter for PodTopologySpread {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        let mut hard = constraints(pod, "DoNotSchedule");
        count(&mut hard, pod, nodes.nodes());
        let skip = hard.is_empty();
        state.put(Hard(hard));
        Ok(PreFilterResult { skip, nodes: None })
    }

    fn what_if(&self, state: &mut CycleState, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, added: bool) {
        let Some(Hard(constraints)) = state.get_mut::<Hard>() else { return };
        if !constraints.iter().all(|c| node.label(&c.key).is_some()) {
            return;
        }
        for constraint in constraints {
            if !constraint.is_of_group(pod, other) || !constraint.counts_node(pod, node) {
                continue;
            }
            if let Some(count) =
                node.label(&constraint.key).and_then(|value| constraint.counts.get_mut(value))
            {
                *count += if added { 1 } else { -1 };
            }
        }
    }
}

impl Filter for PodTopologySpread {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let Some(Hard(constraints)) = state.get::<Hard>() else { return Ok(()) };
        for constraint in constraints {
            let Some(value) = node.label(&constraint.key) else { return Err(Status::unresolvable(NO_LABEL)) };
            let itself = selects(constraint.selector.as_ref(), pod.pod.metadata.labels.as_ref());
            let here = constraint.counts.get(value).copied().unwrap_or(0);
            if here + i64::from(itself) - constraint.least() > constraint.max_skew {
                return Err(Status::unschedulable(UNEVEN));
            }
        }
        Ok(())
    }
}

impl PreScore for PodTopologySpread {
    fn pre_score(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &[Arc<NodeInfo>],
    ) -> Result<bool, Status> {
        let mut soft = constraints(pod, "ScheduleAnyway");
        count(&mut soft, pod, nodes);
        let skip = soft.is_empty();
        let weighted = soft.into_iter().map(|constraint| {
            let domains = match constraint.key.as_str() {
                HOSTNAME => nodes.len(),
                _ => constraint.counts.keys().collect::<BTreeSet<_>>().len(),
            };
            // The more domains, the fewer pods in each, and the more each of them counts.
            let weight = (domains as f64 + 2.0).ln();
            (constraint, weight)
        });
        let soft = Soft(weighted.collect());
        state.put(soft);
        Ok(skip)
    }
}

/// The score of a node that lacks a key: it has no part in the spreading.
const LEFT_OUT: i64 = -1;

impl Score for PodTopologySpread {
    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(Soft(constraints)) = state.get::<Soft>() else { return 0 };
        let mut score = 0.0;
        for (constraint, weight) in constraints {
            let Some(value) = node.label(&constraint.key) else { return LEFT_OUT };
            let count = constraint.counts.get(value).copied().unwrap_or(0);
            score += count as f64 * weight + (constraint.max_skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, _: &CycleState, _: &PodInfo, scores: &mut [i64]) {
        let taking_part = || scores.iter().copied().filter(|score| *score != LEFT_OUT);
        let (low, high) = (taking_part().min().unwrap_or(0), taking_part().max().unwrap_or(0));
        for score in scores {
            *score = match (*score, high) {
                (LEFT_OUT, _) => 0,
                (_, 0) => MAX_NODE_SCORE,
                (score, high) => MAX_NODE_SCORE * (high + low - score) / high,
            };
        }
    }
}
