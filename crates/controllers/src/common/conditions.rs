//! Lists of conditions, of which every kind has its own type.

use k8s_openapi::api::apps::v1::{
    DaemonSetCondition, DeploymentCondition, ReplicaSetCondition, StatefulSetCondition,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition;
use k8s_openapi::api::batch::v1::JobCondition;
use k8s_openapi::api::core::v1::{
    NamespaceCondition, NodeCondition, PodCondition, ReplicationControllerCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as MetaCondition;

/// What all types of conditions have.
pub trait Condition {
    /// `Available`, `Ready`, …
    fn kind(&self) -> &str;
    /// `True`, `False`, `Unknown`.
    fn status(&self) -> &str;
    /// A word in CamelCase.
    fn reason(&self) -> &str;
}

macro_rules! conditions {
    ($($kind:ty),*) => {$(
        impl Condition for $kind {
            fn kind(&self) -> &str {
                &self.type_
            }
            fn status(&self) -> &str {
                &self.status
            }
            fn reason(&self) -> &str {
                self.reason.as_deref().unwrap_or_default()
            }
        }
    )*};
}

conditions!(
    DaemonSetCondition,
    DeploymentCondition,
    HorizontalPodAutoscalerCondition,
    JobCondition,
    NamespaceCondition,
    NodeCondition,
    PodCondition,
    ReplicaSetCondition,
    ReplicationControllerCondition,
    StatefulSetCondition
);

impl Condition for MetaCondition {
    fn kind(&self) -> &str {
        &self.type_
    }
    fn status(&self) -> &str {
        &self.status
    }
    fn reason(&self) -> &str {
        &self.reason
    }
}

/// The condition of a type.
pub fn find<'a, C: Condition>(conditions: Option<&'a Vec<C>>, kind: &str) -> Option<&'a C> {
    conditions.into_iter().flatten().find(|c| c.kind() == kind)
}

/// True if there is a condition of this type with status `True`.
pub fn is_true<C: Condition>(conditions: Option<&Vec<C>>, kind: &str) -> bool {
    find(conditions, kind).is_some_and(|c| c.status() == "True")
}

/// Takes the condition of a type away.
pub fn remove<C: Condition>(conditions: &mut Option<Vec<C>>, kind: &str) {
    if let Some(list) = conditions {
        list.retain(|c| c.kind() != kind);
        if list.is_empty() {
            *conditions = None;
        }
    }
}

/// Puts a condition at the end, in place of the one of its type, unless that has the same status and reason.
pub fn set<C: Condition>(conditions: &mut Option<Vec<C>>, condition: C) {
    let same = find(conditions.as_ref(), condition.kind())
        .is_some_and(|c| c.status() == condition.status() && c.reason() == condition.reason());
    if !same {
        let list = conditions.get_or_insert_default();
        list.retain(|c| c.kind() != condition.kind());
        list.push(condition);
    }
}
