//! Facts about pods, and which of them are deleted first.

use std::cmp::Ordering;
use std::sync::Arc;

use client::{Cache, Informer};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;

use super::conditions;
use super::time::{plus_seconds, since};

/// Lower goes first when a set of pods shrinks (KEP-2255).
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// `Pending`, `Running`, …; empty if there is no status.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// True if its containers have ended for good.
pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// True if it runs or may still run: neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// True if it is being deleted and has not finished yet.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// A condition of its status.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    conditions::find(pod.status.as_ref().and_then(|s| s.conditions.as_ref()), kind)
}

/// True if its Ready condition is.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// From when on a ready pod counts as available; None if it is not ready.
pub fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    if min_ready_seconds == 0 {
        return Some(Timestamp::MIN);
    }
    Some(plus_seconds(ready.last_transition_time.as_ref()?.0, i64::from(min_ready_seconds)))
}

/// True if it has been ready for `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    available_at(pod, min_ready_seconds).is_some_and(|at| at <= now)
}

/// When the next of `pods` becomes available, if one is ready and still waits.
pub fn next_available<'a>(
    pods: impl IntoIterator<Item = &'a Arc<Pod>>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Timestamp> {
    pods.into_iter().filter_map(|pod| available_at(pod, min_ready_seconds)).filter(|at| *at > now).min()
}

/// The node it is bound to.
pub fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty())
}

/// Index of pods by node; see [`on_node`].
const NODE_INDEX: &str = "node";

/// Makes [`on_node`] quick.
pub fn index_by_node(pods: &Informer<Pod>) {
    pods.add_index(NODE_INDEX, |pod| node_name(pod).map(str::to_owned).into_iter().collect());
}

/// The pods bound to a node.
pub fn on_node(pods: &Cache<Pod>, node: &str) -> Vec<Arc<Pod>> {
    pods.by_index(NODE_INDEX, node)
}

/// The condition that says why a pod is disrupted from outside (KEP-3329).
pub fn disruption_target(reason: &str, message: &str, now: Timestamp) -> PodCondition {
    PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: super::time::time(now),
        ..PodCondition::default()
    }
}

/// A reference to it, as endpoints hold one.
pub fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// Its name; the API server gives every object one.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Its uid.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// A pod with how many others of its kind share its node.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Active related pods on its node.
    pub rank: usize,
}

/// Orders pods by who is to go first (upstream's ActivePodsWithRanks).
pub fn deletion_order(a: &Ranked, b: &Ranked, now: Timestamp) -> Ordering {
    let key = |r: &Ranked| {
        let pod = &r.pod;
        (node_name(pod).is_some(), phase_order(phase(pod)), is_ready(pod), deletion_cost(pod))
    };
    let by_ready_time = || {
        if is_ready(&a.pod) && is_ready(&b.pod) {
            younger_first(ready_since(&a.pod), ready_since(&b.pod), uid(&a.pod), uid(&b.pod), now)
        } else {
            Ordering::Equal
        }
    };
    let created = |r: &Ranked| r.pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    key(a)
        .cmp(&key(b))
        .then_with(|| b.rank.cmp(&a.rank))
        .then_with(by_ready_time)
        .then_with(|| max_restarts(&b.pod).cmp(&max_restarts(&a.pod)))
        .then_with(|| younger_first(created(a), created(b), uid(&a.pod), uid(&b.pod), now))
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    ready.last_transition_time.as_ref().map(|t| t.0)
}

fn phase_order(phase: &str) -> u8 {
    match phase {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    let text = pod.metadata.annotations.as_ref().and_then(|a| a.get(DELETION_COST));
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}

/// The younger goes first; ages of the same magnitude count as the same, and the uid decides (KEP-2185).
fn younger_first(
    a: Option<Timestamp>,
    b: Option<Timestamp>,
    uid_a: &str,
    uid_b: &str,
    now: Timestamp,
) -> Ordering {
    match (a, b) {
        (a, b) if a == b => Ordering::Equal,
        (None, _) => Ordering::Less,
        (_, None) => Ordering::Greater,
        (Some(a), Some(b)) => magnitude(a, now).cmp(&magnitude(b, now)).then_with(|| uid_a.cmp(uid_b)),
    }
}

fn magnitude(at: Timestamp, now: Timestamp) -> i32 {
    let age_ns = since(at, now).as_nanos();
    if age_ns <= 0 { -1 } else { age_ns.ilog2() as i32 }
}

/// Restarts of the container that restarted most: regular ones before sidecars.
fn max_restarts(pod: &Pod) -> (i32, i32) {
    let most = |statuses: Option<&Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
        statuses.into_iter().flatten().map(|c| c.restart_count).max().unwrap_or(0)
    };
    pod.status
        .as_ref()
        .map_or((0, 0), |s| (most(s.container_statuses.as_ref()), most(s.init_container_statuses.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::pod;

    #[test]
    fn the_least_useful_pod_goes_first() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let ranked = |rank: usize, pod: Pod| Ranked { pod: Arc::new(pod), rank };
        let ready = |name: &str, at: &str| pod(name).on("n1").running().ready_since(at).build();
        // Each goes before the next.
        let mut order = vec![
            ranked(0, pod("unassigned").running().build()),
            ranked(0, pod("pending").on("n1").phase("Pending").build()),
            ranked(0, pod("unready").on("n1").running().build()),
            ranked(0, pod("cheap").on("n1").running().ready_since("2026-01-01T00:00:00Z").cost("-5").build()),
            ranked(3, ready("crowded", "2026-01-01T00:00:00Z")),
            ranked(1, ready("young", "2026-01-01T23:59:00Z")),
            ranked(1, ready("old", "2026-01-01T00:00:00Z")),
        ];
        let names = |pods: &[Ranked]| pods.iter().map(|r| name(&r.pod).to_owned()).collect::<Vec<_>>();
        let expected = names(&order);
        order.reverse();
        order.sort_by(|a, b| deletion_order(a, b, now));
        assert_eq!(names(&order), expected);
    }

    #[test]
    fn availability_waits_for_min_ready_seconds() {
        let pod = Arc::new(pod("p").running().ready_since("2026-01-01T00:00:00Z").build());
        let at = |t: &str| t.parse::<Timestamp>().unwrap();
        assert!(is_available(&pod, 0, at("2026-01-01T00:00:00Z")));
        assert!(!is_available(&pod, 10, at("2026-01-01T00:00:09Z")));
        assert!(is_available(&pod, 10, at("2026-01-01T00:00:10Z")));
        assert_eq!(next_available([&pod], 10, at("2026-01-01T00:00:09Z")), Some(at("2026-01-01T00:00:10Z")));
    }
}
