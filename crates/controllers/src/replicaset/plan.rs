//! What a replica set has to do, and what it says of itself.

use std::cmp::Ordering;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::common::pods::{self, Ranked};
use crate::common::selector::Matcher;
use crate::common::{conditions, time};

/// Most pods made or deleted at once (upstream's BurstReplicas).
const BURST_REPLICAS: usize = 500;
/// The only condition of replica sets.
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// A ReplicaSet, or a ReplicationController seen as one.
#[derive(Debug, Clone)]
pub struct Set {
    /// Metadata.
    pub meta: ObjectMeta,
    /// Desired pods.
    pub replicas: i32,
    /// How long a pod must be ready to count as available.
    pub min_ready_seconds: i32,
    /// Which pods are its.
    pub selector: Matcher,
    /// What they are made from.
    pub template: PodTemplateSpec,
    /// What was last said of it.
    pub status: ReplicaSetStatus,
}

/// What is to be done with pods.
#[derive(Debug)]
pub enum Action {
    /// Make so many.
    Create(usize),
    /// Delete these.
    Delete(Vec<Arc<Pod>>),
}

/// Makes the number of active pods the desired one. `ours` are all pods of the set, `related` those of its siblings: sets
/// with the same controller, whose pods share nodes with ours.
pub fn plan(set: &Set, ours: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Option<Action> {
    if set.meta.deletion_timestamp.is_some() {
        return None;
    }
    let active: Vec<&Arc<Pod>> = ours.iter().filter(|p| pods::is_active(p)).collect();
    let desired = usize::try_from(set.replicas).unwrap_or(0);
    match active.len().cmp(&desired) {
        Ordering::Equal => None,
        Ordering::Less => Some(Action::Create((desired - active.len()).min(BURST_REPLICAS))),
        Ordering::Greater => {
            let count = (active.len() - desired).min(BURST_REPLICAS);
            Some(Action::Delete(victims(&active, related, count, now)))
        }
    }
}

fn victims(active: &[&Arc<Pod>], related: &[Arc<Pod>], count: usize, now: Timestamp) -> Vec<Arc<Pod>> {
    if count == active.len() {
        return active.iter().map(|p| Arc::clone(p)).collect();
    }
    let neighbours = |pod: &Pod| {
        let node = pods::node_name(pod);
        related.iter().filter(|p| pods::is_active(p) && pods::node_name(p) == node).count()
    };
    let mut ranked: Vec<Ranked> =
        active.iter().map(|p| Ranked { pod: Arc::clone(p), rank: neighbours(p) }).collect();
    ranked.sort_by(|a, b| pods::deletion_order(a, b, now));
    ranked.into_iter().take(count).map(|r| r.pod).collect()
}

/// The status that the set's pods amount to. `failure` is the message of a create or delete that failed.
pub fn status(set: &Set, ours: &[Arc<Pod>], failure: Option<&str>, now: Timestamp) -> ReplicaSetStatus {
    let active: Vec<&Arc<Pod>> = ours.iter().filter(|p| pods::is_active(p)).collect();
    let count = |keep: &dyn Fn(&Pod) -> bool| active.iter().filter(|p| keep(p)).count() as i32;
    let labels = set.template.metadata.as_ref().and_then(|m| m.labels.as_ref());
    let labelled = Matcher::labels(labels);
    let mut status = ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: some(count(&|p| labelled.matches(p.metadata.labels.as_ref()))),
        ready_replicas: some(count(&pods::is_ready)),
        available_replicas: some(count(&|p| pods::is_available(p, set.min_ready_seconds, now))),
        terminating_replicas: Some(ours.iter().filter(|p| pods::is_terminating(p)).count() as i32),
        observed_generation: set.meta.generation,
        conditions: set.status.conditions.clone(),
    };
    let failing = conditions::find(status.conditions.as_ref(), REPLICA_FAILURE).is_some();
    match failure {
        Some(message) if !failing => {
            let reason = if (active.len() as i32) < set.replicas { "FailedCreate" } else { "FailedDelete" };
            let condition = ReplicaSetCondition {
                type_: REPLICA_FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_transition_time: time::time(now),
            };
            conditions::set(&mut status.conditions, condition);
        }
        None if failing => conditions::remove(&mut status.conditions, REPLICA_FAILURE),
        _ => {}
    }
    status
}

/// Counts of zero are left out, as upstream's `omitempty` does.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{PodBuilder, at, object, pod};
    use serde_json::json;

    fn set(replicas: i32) -> Set {
        Set {
            meta: object(json!({"name": "web", "namespace": "ns", "uid": "rs", "generation": 2})),
            replicas,
            min_ready_seconds: 0,
            selector: Matcher::default(),
            template: object(json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}})),
            status: ReplicaSetStatus::default(),
        }
    }

    fn ours(builders: Vec<PodBuilder>) -> Vec<Arc<Pod>> {
        builders.into_iter().map(|b| Arc::new(b.build())).collect()
    }

    #[test]
    fn pods_are_made_and_deleted_to_the_number() {
        let now = at("2026-01-02T00:00:00Z");
        let text = |action: Option<Action>| match action {
            None => "nothing".to_owned(),
            Some(Action::Create(n)) => format!("create {n}"),
            Some(Action::Delete(victims)) => {
                format!("delete {}", victims.iter().map(|p| pods::name(p)).collect::<Vec<_>>().join(" "))
            }
        };
        let two = || vec![pod("a").on("n1").ready(), pod("b").on("n1").phase("Pending")];
        for (replicas, have, expected) in [
            (3, vec![], "create 3"),
            (1000, vec![], "create 500"),
            (2, two(), "nothing"),
            (1, two(), "delete b"),
            (0, two(), "delete a b"),
            (2, vec![pod("a").ready(), pod("b").ready().leaving()], "create 1"),
            (2, vec![pod("a").ready(), pod("b").phase("Failed")], "create 1"),
        ] {
            let have = ours(have);
            assert_eq!(text(plan(&set(replicas), &have, &have, now)), expected, "{replicas}");
        }
        let mut leaving = set(3);
        leaving.meta.deletion_timestamp = time::time(now);
        assert!(plan(&leaving, &[], &[], now).is_none());
    }

    #[test]
    fn crowded_nodes_lose_pods_first() {
        let now = at("2026-01-02T00:00:00Z");
        let have = ours(vec![pod("a").on("n1").ready(), pod("b").on("n2").ready()]);
        let mut related = have.clone();
        related.extend(ours(vec![pod("sibling").on("n2").ready()]));
        let Some(Action::Delete(victims)) = plan(&set(1), &have, &related, now) else { panic!() };
        assert_eq!(pods::name(&victims[0]), "b");
    }

    #[test]
    fn status_counts_and_tells_failures() {
        let now = at("2026-01-02T00:00:00Z");
        let have = ours(vec![
            pod("a").ready().label("app", "web"),
            pod("b").running(),
            pod("c").running().leaving(),
            pod("d").phase("Succeeded"),
        ]);
        let mut set = set(3);
        let first = status(&set, &have, Some("quota"), now);
        let expected = json!({"replicas": 2, "fullyLabeledReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
            "terminatingReplicas": 1, "observedGeneration": 2, "conditions": [{"type": "ReplicaFailure",
            "status": "True", "reason": "FailedCreate", "message": "quota", "lastTransitionTime": "2026-01-02T00:00:00Z"}]});
        assert_eq!(serde_json::to_value(&first).unwrap(), expected);
        set.status = first;
        assert_eq!(status(&set, &have, None, now).conditions, None);
    }
}
