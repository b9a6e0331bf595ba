//! TaintToleration: taints keep pods off that do not tolerate them; PreferNoSchedule ones count against a node.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::framework::{
    Action, ClusterEvent, CycleState, Filter, MAX_NODE_SCORE, Plugin, Points, Resource, Score, Status,
    Verdict, normalize_by_max,
};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// Compares taints with tolerations.
pub struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(self: Arc<Self>) -> Points {
        Points { filter: Some(self.clone()), score: Some(self), ..Points::default() }
    }

    fn events(&self) -> Vec<ClusterEvent> {
        vec![
            ClusterEvent::new(Resource::Node, Action::ADD.or(Action::UPDATE_TAINT)),
            ClusterEvent::new(Resource::UnscheduledPod, Action::UPDATE_TOLERATION),
        ]
    }
}

impl Filter for TaintToleration {
    fn filter(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let keeps_off = |taint: &&Taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute";
        match node.taints().iter().filter(keeps_off).find(|taint| !tolerates(pod, taint)) {
            None => Ok(()),
            Some(taint) => {
                let value = taint.value.as_deref().unwrap_or_default();
                Err(Status::unresolvable(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)))
            }
        }
    }
}

impl Score for TaintToleration {
    fn score(&self, _: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let against = |taint: &&Taint| taint.effect == "PreferNoSchedule" && !tolerates(pod, taint);
        node.taints().iter().filter(against).count() as i64
    }

    fn normalize(&self, _: &CycleState, _: &PodInfo, scores: &mut [i64]) {
        normalize_by_max(scores, MAX_NODE_SCORE, true);
    }
}

/// True if one of the pod's tolerations fits `taint`.
pub fn tolerates(pod: &PodInfo, taint: &Taint) -> bool {
    let tolerations = pod.spec().and_then(|s| s.tolerations.as_deref()).unwrap_or_default();
    tolerations.iter().any(|toleration| fits(toleration, taint))
}

/// As upstream's Toleration.ToleratesTaint; `Lt` and `Gt` compare integers (KEP-5471).
fn fits(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    let (wanted, have) = (text(&toleration.value), taint.value.clone().unwrap_or_default());
    let numbers = || Some((have.parse::<i64>().ok()?, wanted.parse::<i64>().ok()?));
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => wanted == have,
        "Exists" => true,
        "Lt" => numbers().is_some_and(|(have, wanted)| have < wanted),
        "Gt" => numbers().is_some_and(|(have, wanted)| have > wanted),
        _ => false,
    }
}
