//! NodeAffinity: `nodeSelector` and node affinity, required and preferred.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeAffinity as Affinity, NodeSelector};

use super::selector;
use crate::framework::{
    Action, ClusterEvent, CycleState, Filter, MAX_NODE_SCORE, Plugin, Points, PreFilter, PreFilterResult,
    PreScore, Resource, Score, Status, Verdict, normalize_by_max,
};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;

/// Matches pods' node selectors and node affinity.
pub struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
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
        vec![ClusterEvent::new(Resource::Node, Action::ADD.or(Action::UPDATE_LABEL))]
    }
}

fn affinity(pod: &PodInfo) -> Option<&Affinity> {
    pod.spec()?.affinity.as_ref()?.node_affinity.as_ref()
}

fn required(pod: &PodInfo) -> Option<&NodeSelector> {
    affinity(pod)?.required_during_scheduling_ignored_during_execution.as_ref()
}

/// True if the node has what the pod requires.
pub fn fits(pod: &PodInfo, node: &NodeInfo) -> bool {
    let mut labels = pod.spec().and_then(|s| s.node_selector.as_ref()).into_iter().flatten();
    labels.all(|(key, value)| node.label(key) == Some(value.as_str()))
        && required(pod).is_none_or(|selector| selector::matches(selector, node))
}

/// The nodes that `metadata.name` requirements leave, if every term has one.
fn named_nodes(selector: &NodeSelector) -> Option<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for term in &selector.node_selector_terms {
        let by_name =
            term.match_fields.iter().flatten().filter(|r| r.key == "metadata.name" && r.operator == "In");
        let sets: Vec<BTreeSet<String>> =
            by_name.map(|r| r.values.iter().flatten().cloned().collect()).collect();
        let first = sets.first()?.clone();
        names.extend(sets.iter().skip(1).fold(first, |left, set| &left & set));
    }
    Some(names)
}

impl PreFilter for NodeAffinity {
    fn pre_filter(&self, _: &mut CycleState, pod: &PodInfo, _: &Snapshot) -> Result<PreFilterResult, Status> {
        let selects =
            pod.spec().is_some_and(|s| s.node_selector.as_ref().is_some_and(|labels| !labels.is_empty()));
        let nodes = required(pod).and_then(named_nodes);
        if nodes.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(Status::unresolvable("pod affinity terms conflict"));
        }
        Ok(PreFilterResult { skip: !selects && required(pod).is_none(), nodes })
    }
}

impl Filter for NodeAffinity {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        match fits(pod, node) {
            true => Ok(()),
            false => Err(Status::unresolvable("node(s) didn't match Pod's node affinity/selector")),
        }
    }
}

impl PreScore for NodeAffinity {
    fn pre_score(&self, _: &mut CycleState, pod: &PodInfo, _: &[Arc<NodeInfo>]) -> Result<bool, Status> {
        let preferred =
            affinity(pod).and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        Ok(preferred.is_none_or(Vec::is_empty))
    }
}

impl Score for NodeAffinity {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let terms =
            affinity(pod).and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        let held = terms.into_iter().flatten().filter(|term| selector::matches_term(&term.preference, node));
        held.map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, _: &CycleState, _: &PodInfo, scores: &mut [i64]) {
        normalize_by_max(scores, MAX_NODE_SCORE, false);
    }
}
