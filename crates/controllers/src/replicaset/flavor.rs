//! ReplicaSet and ReplicationController as one.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};

use super::plan::Set;
use crate::common::owner::Namespaced;
use crate::common::selector::Matcher;

/// A kind that keeps a number of pods.
pub trait Flavor: Namespaced {
    /// Name of its work queue.
    const QUEUE: &'static str;

    /// What the plan sees of it.
    fn view(&self) -> Set;

    /// The same with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Flavor for ReplicaSet {
    const QUEUE: &'static str = "replicaset";

    fn view(&self) -> Set {
        let spec = self.spec.clone().unwrap_or_default();
        Set {
            meta: self.metadata.clone(),
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            // An unknown operator is never admitted; matching nothing harms no pod.
            selector: Matcher::new(&spec.selector).unwrap_or_else(|_| Matcher::nothing()),
            template: spec.template.unwrap_or_default(),
            status: self.status.clone().unwrap_or_default(),
        }
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }
}

impl Flavor for ReplicationController {
    const QUEUE: &'static str = "replicationcontroller";

    fn view(&self) -> Set {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().unwrap_or_default();
        Set {
            meta: self.metadata.clone(),
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            selector: match spec.selector.as_ref().filter(|s| !s.is_empty()) {
                Some(labels) => Matcher::labels(Some(labels)),
                None => Matcher::nothing(),
            },
            template: spec.template.unwrap_or_default(),
            status: ReplicaSetStatus {
                available_replicas: status.available_replicas,
                conditions: status.conditions.map(|all| all.into_iter().map(from_rc).collect()),
                fully_labeled_replicas: status.fully_labeled_replicas,
                observed_generation: status.observed_generation,
                ready_replicas: status.ready_replicas,
                replicas: status.replicas,
                terminating_replicas: None,
            },
        }
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let status = ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|all| all.into_iter().map(to_rc).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        };
        Self { status: Some(status), ..self.clone() }
    }
}

fn from_rc(c: ReplicationControllerCondition) -> ReplicaSetCondition {
    ReplicaSetCondition {
        last_transition_time: c.last_transition_time,
        message: c.message,
        reason: c.reason,
        status: c.status,
        type_: c.type_,
    }
}

fn to_rc(c: ReplicaSetCondition) -> ReplicationControllerCondition {
    ReplicationControllerCondition {
        last_transition_time: c.last_transition_time,
        message: c.message,
        reason: c.reason,
        status: c.status,
        type_: c.type_,
    }
}

/// To compare two: absent and zero, absent and empty, are the same to a reader.
pub fn normalized(mut status: ReplicaSetStatus) -> ReplicaSetStatus {
    for count in [
        &mut status.available_replicas,
        &mut status.fully_labeled_replicas,
        &mut status.ready_replicas,
        &mut status.terminating_replicas,
    ] {
        *count = count.filter(|c| *c != 0);
    }
    status.conditions = status.conditions.take().filter(|c| !c.is_empty());
    status
}
