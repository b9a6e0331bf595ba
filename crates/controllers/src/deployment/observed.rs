//! What a deployment's plan starts from.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::jiff::Timestamp;

use crate::common::numbers::{NotAPercentage, fenceposts};

/// The label that tells the pods of one replica set from those of the next.
pub const HASH_LABEL: &str = "pod-template-hash";

/// A deployment with its replica sets.
pub struct Observed {
    /// The deployment.
    pub deployment: Arc<Deployment>,
    /// Its spec.
    pub spec: DeploymentSpec,
    /// The replica set of the current template, if it exists.
    pub new: Option<Arc<ReplicaSet>>,
    /// All others, by age, the oldest first.
    pub old: Vec<Arc<ReplicaSet>>,
    /// True if a pod of an old template may still run.
    pub old_pods_run: bool,
    /// Pods above the desired number that a rollout may have.
    pub max_surge: i32,
    /// Pods below the desired number that a rollout may lack.
    pub max_unavailable: i32,
    /// The wall clock.
    pub now: Timestamp,
}

impl Observed {
    /// Sorts `replica_sets` into the new one and the old ones. `busy` says whether a replica set has unfinished pods.
    pub fn new(
        deployment: Arc<Deployment>,
        mut replica_sets: Vec<Arc<ReplicaSet>>,
        busy: impl Fn(&ReplicaSet) -> bool,
        now: Timestamp,
    ) -> Result<Self, NotAPercentage> {
        let spec = deployment.spec.clone().unwrap_or_default();
        replica_sets.sort_by_key(|rs| age_key(rs));
        let at = replica_sets.iter().position(|rs| is_of_template(rs, &spec.template));
        let new = at.map(|at| replica_sets.remove(at));
        let old_pods_run = replica_sets.iter().any(|rs| busy(rs));
        let replicas = spec.replicas.unwrap_or(1);
        let rolling = spec.strategy.as_ref().and_then(|s| s.rolling_update.clone()).unwrap_or_default();
        let (max_surge, max_unavailable) = if is_recreate(&deployment) {
            (0, 0)
        } else {
            fenceposts(rolling.max_surge.as_ref(), rolling.max_unavailable.as_ref(), replicas)?
        };
        let max_unavailable = if replicas == 0 { 0 } else { max_unavailable.min(replicas) };
        Ok(Self { deployment, spec, new, old: replica_sets, old_pods_run, max_surge, max_unavailable, now })
    }

    /// Desired pods.
    pub fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    /// The new and the old replica sets.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    /// The name of the deployment.
    pub fn name(&self) -> &str {
        self.deployment.metadata.name.as_deref().unwrap_or_default()
    }

    /// What was last said of the deployment.
    pub fn status(&self) -> DeploymentStatus {
        self.deployment.status.clone().unwrap_or_default()
    }

    /// How long a rollout may stand still, in seconds; None for ever.
    pub fn progress_deadline(&self) -> Option<i32> {
        self.spec.progress_deadline_seconds.filter(|s| *s != i32::MAX)
    }

    /// The largest number of pods that a rollout may have.
    pub fn max_total(&self) -> i32 {
        self.replicas().saturating_add(self.max_surge)
    }
}

/// True if old pods must be gone before new ones are made.
pub fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref());
    strategy.and_then(|s| s.type_.as_deref()) == Some("Recreate")
}

/// Orders replica sets by age, then name.
pub fn age_key(rs: &ReplicaSet) -> (Option<Timestamp>, String) {
    let created = rs.metadata.creation_timestamp.as_ref().map(|t| t.0);
    (created, rs.metadata.name.clone().unwrap_or_default())
}

/// Desired pods of a replica set.
pub fn size(rs: &ReplicaSet) -> i32 {
    rs.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// Available pods of a replica set.
pub fn available(rs: &ReplicaSet) -> i32 {
    rs.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

/// True if `rs` was made from `template`: they are the same but for the hash label.
pub fn is_of_template(rs: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(ours) = rs.spec.as_ref().and_then(|s| s.template.as_ref()) else { return false };
    let strip = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(labels) = template.metadata.as_mut().and_then(|m| m.labels.as_mut()) {
            labels.remove(HASH_LABEL);
        }
        template
    };
    let (ours, theirs) = (strip(ours), strip(template));
    ours == theirs || normal_json(&ours) == normal_json(&theirs)
}

/// JSON in which absent and empty are the same, as upstream's semantic equality has it.
fn normal_json(template: &PodTemplateSpec) -> serde_json::Value {
    let mut value = serde_json::to_value(template).unwrap_or_default();
    prune_empty(&mut value);
    value
}

fn prune_empty(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune_empty);
            // `emptyDir: {}` means something, so only what no union has as a member may vanish.
            map.retain(|_, v| !(v.is_null() || v.as_array().is_some_and(Vec::is_empty)));
            for name in ["labels", "annotations", "nodeSelector", "securityContext", "resources", "metadata"]
            {
                if map.get(name).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
                    map.remove(name);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(prune_empty),
        _ => {}
    }
}
