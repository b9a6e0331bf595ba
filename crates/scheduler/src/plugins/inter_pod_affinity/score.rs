//! How near a node is to the pods that a pod would like to be near to, and the other way round.

use std::sync::Arc;

use super::term::{Direction, Term, preferred, required};
use super::{Counts, InterPodAffinity};
use crate::framework::{CycleState, MAX_NODE_SCORE, PreScore, Score, Status};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// What a required affinity term of a running pod counts for (upstream's `hardPodAffinityWeight`).
const HARD_WEIGHT: i64 = 1;

/// The sum of weights by domain.
#[derive(Debug, Default)]
struct Weights(Counts);

impl Weights {
    fn add(&mut self, node: &NodeInfo, term: &Term, weight: i64) {
        if let Some(value) = node.label(&term.topology_key) {
            *self.0.entry((term.topology_key.clone(), value.to_owned())).or_default() += weight;
        }
    }
}

impl PreScore for InterPodAffinity {
    fn pre_score(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &[Arc<NodeInfo>],
    ) -> Result<bool, Status> {
        let own = preferred(pod);
        let mut weights = Weights::default();
        for node in nodes {
            for other in node.pods.iter().filter(|other| !own.is_empty() || other.has_affinity) {
                for (term, weight) in own.iter().filter(|(term, _)| term.matches(other, self.lister.as_ref()))
                {
                    weights.add(node, term, *weight);
                }
                if !other.has_affinity {
                    continue;
                }
                let wished = preferred(other);
                let must = required(other, Direction::Near).into_iter().map(|term| (term, HARD_WEIGHT));
                for (term, weight) in wished.into_iter().chain(must) {
                    if term.matches(pod, self.lister.as_ref()) {
                        weights.add(node, &term, weight);
                    }
                }
            }
        }
        let skip = weights.0.is_empty();
        state.put(weights);
        Ok(skip)
    }
}

impl Score for InterPodAffinity {
    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(weights) = state.get::<Weights>() else { return 0 };
        let here = weights.0.iter().filter(|((key, value), _)| node.label(key) == Some(value.as_str()));
        here.map(|(_, weight)| *weight).sum()
    }

    fn normalize(&self, _: &CycleState, _: &PodInfo, scores: &mut [i64]) {
        let (Some(low), Some(high)) = (scores.iter().min().copied(), scores.iter().max().copied()) else {
            return;
        };
        for score in scores {
            *score = if high > low { MAX_NODE_SCORE * (*score - low) / (high - low) } else { 0 };
        }
    }
}
