//! How many pods of a budget may be disrupted now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;

use crate::common::numbers::{NotAPercentage, Round, scaled};
use crate::common::{pods, time};

/// An evicted pod that is not deleted after this long counts again (upstream's DeletionTimeout).
const DELETION_TIMEOUT_S: i64 = 120;
/// The only condition of budgets.
const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";

/// Whether the budget needs to know how many pods its pods' controllers want.
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let Some(spec) = &budget.spec else { return false };
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// The status, and the pods that should have gone and have not, and when to look again. `scale` is the number of pods
/// that the controllers of `pods` want, if [`needs_scale`].
pub fn plan(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scale: i32,
    now: Timestamp,
) -> Result<(PodDisruptionBudgetStatus, Vec<Arc<Pod>>, Option<Duration>), NotAPercentage> {
    let spec = budget.spec.clone().unwrap_or_default();
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (scale, (scale - scaled(most, scale, Round::Up)?).max(0)),
        (None, Some(IntOrString::Int(least))) => (pods.len() as i32, *least),
        (None, Some(least)) => (scale, scaled(least, scale, Round::Up)?),
        (None, None) => (0, 0),
    };
    let (disrupted, overdue, recheck) = disrupted(budget, pods, now);
    let healthy = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none() && pods::is_ready(pod))
        .filter(|pod| !disrupted.contains_key(pods::name(pod)))
        .count() as i32;
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let before = budget.status.clone().unwrap_or_default();
    let (word, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: budget.metadata.generation,
        conditions: Some(with_condition(
            before.conditions,
            word,
            reason,
            "",
            budget.metadata.generation,
            now,
        )),
    };
    Ok((status, overdue, recheck))
}

/// The status when the numbers cannot be known: nothing may be disrupted.
pub fn fail_safe(budget: &PodDisruptionBudget, message: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let before = budget.status.clone().unwrap_or_default();
    let generation = budget.metadata.generation;
    PodDisruptionBudgetStatus {
        disruptions_allowed: Some(0),
        conditions: Some(with_condition(
            before.conditions.clone(),
            "False",
            "SyncFailed",
            message,
            generation,
            now,
        )),
        ..before
    }
}

fn with_condition(
    before: Option<Vec<Condition>>,
    word: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut all = before.unwrap_or_default();
    let known = all.iter().find(|c| c.type_ == DISRUPTION_ALLOWED && c.status == word);
    let since = known.map_or(Time(now), |c| c.last_transition_time.clone());
    all.retain(|c| c.type_ != DISRUPTION_ALLOWED);
    all.push(Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: word.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since,
    });
    all
}

type Disrupted = (BTreeMap<String, Time>, Vec<Arc<Pod>>, Option<Duration>);

/// Pods whose eviction was granted and that are not gone yet, those that should be, and when the next should be.
fn disrupted(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], now: Timestamp) -> Disrupted {
    let noted = budget.status.as_ref().and_then(|s| s.disrupted_pods.clone()).unwrap_or_default();
    let (mut waiting, mut overdue, mut recheck) = (BTreeMap::new(), Vec::new(), None);
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let Some(since) = noted.get(pods::name(pod)) else { continue };
        let until = time::plus_seconds(since.0, DELETION_TIMEOUT_S);
        if until < now {
            overdue.push(pod.clone());
        } else {
            recheck = time::earlier(recheck, Some(time::until(now, until) + Duration::from_secs(1)));
            waiting.insert(pods::name(pod).to_owned(), since.clone());
        }
    }
    (waiting, overdue, recheck)
}

/// True if the pod was said to be disrupted and, after the timeout, is still there; else how long that may take.
pub fn is_stale_target(pod: &Pod, now: Timestamp) -> Result<bool, Duration> {
    let Some(condition) = pods::condition(pod, "DisruptionTarget").filter(|c| c.status == "True") else {
        return Ok(false);
    };
    if pods::is_finished(pod) || pod.metadata.deletion_timestamp.is_some() {
        return Ok(false);
    }
    let since = condition.last_transition_time.as_ref().map_or(now, |t| t.0);
    let left = time::until(now, time::plus_seconds(since, DELETION_TIMEOUT_S));
    if left.is_zero() { Ok(true) } else { Err(left) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{at, object, pod};
    use serde_json::{Value, json};

    #[test]
    fn budgets_allow_what_is_spare() {
        let now = at("2026-01-01T01:00:00Z");
        let ready = |n: usize| -> Vec<Arc<Pod>> {
            (0..n).map(|i| Arc::new(pod(&format!("p{i}")).ready().build())).collect()
        };
        for (spec, pods, scale, expected) in [
            (json!({"minAvailable": 2}), ready(3), 0, [3, 2, 3, 1]),
            (json!({"minAvailable": 3}), ready(3), 0, [3, 3, 3, 0]),
            (json!({"minAvailable": "50%"}), ready(3), 4, [3, 2, 4, 1]),
            (json!({"maxUnavailable": 1}), ready(3), 3, [3, 2, 3, 1]),
            (json!({"maxUnavailable": "30%"}), ready(2), 3, [2, 2, 3, 0]),
            (json!({"minAvailable": 0}), ready(0), 0, [0, 0, 0, 0]),
        ] {
            let budget = object(json!({"metadata": {"generation": 1}, "spec": spec.clone()}));
            let (status, _, _) = plan(&budget, &pods, scale, now).unwrap();
            let found = [
                status.current_healthy,
                status.desired_healthy,
                status.expected_pods,
                status.disruptions_allowed,
            ];
            assert_eq!(found.map(Option::unwrap), expected, "{spec}");
        }
    }

    #[test]
    fn evicted_pods_count_as_gone_for_a_while() {
        let now = at("2026-01-01T01:00:00Z");
        let budget = |since: &str| -> PodDisruptionBudget {
            let noted: Value = json!({"p0": since, "gone": since});
            object(json!({"metadata": {}, "spec": {"minAvailable": 1}, "status": {"disruptedPods": noted}}))
        };
        let pods = vec![Arc::new(pod("p0").ready().build()), Arc::new(pod("p1").ready().build())];
        let (status, overdue, recheck) = plan(&budget("2026-01-01T00:59:00Z"), &pods, 0, now).unwrap();
        assert_eq!((status.current_healthy, status.disruptions_allowed), (Some(1), Some(0)));
        assert_eq!(
            (overdue.len(), recheck.unwrap().as_secs(), status.disrupted_pods.unwrap().len()),
            (0, 61, 1)
        );
        let (status, overdue, _) = plan(&budget("2026-01-01T00:50:00Z"), &pods, 0, now).unwrap();
        assert_eq!((status.disruptions_allowed, overdue.len()), (Some(1), 1));
    }
}
