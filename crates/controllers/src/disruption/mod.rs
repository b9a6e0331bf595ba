//! PodDisruptionBudgets: says how many pods may be evicted now (upstream's disruption controller).

mod plan;

use std::collections::HashSet;
use std::sync::Arc;

use client::{Cache, Event, EventRecorder, EventType, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::Error;
use crate::common::selector::Matcher;
use crate::common::watching::watch_keys;
use crate::common::{api, discovery, owner, pods, time};
use crate::context::Context;

struct Controller {
    client: kube::Client,
    events: EventRecorder,
    budgets: Cache<PodDisruptionBudget>,
    pods: Cache<Pod>,
    deployments: Cache<Deployment>,
    replica_sets: Cache<ReplicaSet>,
    stateful_sets: Cache<StatefulSet>,
    controllers: Cache<ReplicationController>,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let budgets = context.informers.get::<PodDisruptionBudget>();
    let pods = context.informers.get::<Pod>();
    let deployments = context.informers.get::<Deployment>();
    let replica_sets = context.informers.get::<ReplicaSet>();
    let stateful_sets = context.informers.get::<StatefulSet>();
    let controllers = context.informers.get::<ReplicationController>();
    let queue = WorkQueue::new("disruption");
    let stale = WorkQueue::new("disruption-stale-pods");
    watch_keys(&budgets, &queue);
    let (of_pods, of_targets, cache) = (queue.clone(), stale.clone(), budgets.cache());
    pods.on_event(move |event| {
        if let Event::Updated { old, new } = event {
            let facts = |p: &Pod| {
                (pods::is_ready(p), p.metadata.deletion_timestamp.is_some(), p.metadata.labels.clone())
            };
            let target = |p: &Pod| pods::condition(p, "DisruptionTarget").map(|c| c.status.clone());
            if target(old) != target(new) {
                of_targets.add(ObjectKey::of(new.as_ref()));
            }
            if facts(old) == facts(new) {
                return;
            }
            budgets_of(&cache, old).into_iter().for_each(|key| of_pods.add(key));
        } else if pods::condition(event.object(), "DisruptionTarget").is_some() {
            of_targets.add(ObjectKey::of(event.object().as_ref()));
        }
        budgets_of(&cache, event.object()).into_iter().for_each(|key| of_pods.add(key));
    });
    budgets.synced().await;
    pods.synced().await;
    deployments.synced().await;
    replica_sets.synced().await;
    stateful_sets.synced().await;
    controllers.synced().await;
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        events: context.events.clone(),
        budgets: budgets.cache(),
        pods: pods.cache(),
        deployments: deployments.cache(),
        replica_sets: replica_sets.cache(),
        stateful_sets: stateful_sets.cache(),
        controllers: controllers.cache(),
    });
    let of_stale = controller.clone();
    run_workers(&context.scope, stale, 1, move |key: ObjectKey| {
        let controller = of_stale.clone();
        async move { controller.clear_stale_target(&key).await }
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

fn budgets_of(budgets: &Cache<PodDisruptionBudget>, pod: &Pod) -> Vec<ObjectKey> {
    let of_namespace = budgets.list_namespace(pod.metadata.namespace.as_deref().unwrap_or_default());
    let matching = of_namespace.iter().filter(|b| selector_of(b).matches(pod.metadata.labels.as_ref()));
    matching.map(|b| ObjectKey::of(b.as_ref())).collect()
}

fn selector_of(budget: &PodDisruptionBudget) -> Matcher {
    let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
    Matcher::optional(selector).unwrap_or_else(|_| Matcher::nothing())
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(budget) = self.budgets.get_key(key) else { return Ok(Outcome::Done) };
        let selector = selector_of(&budget);
        let mut pods = self.pods.list_namespace(key.namespace_or_empty());
        pods.retain(|pod| selector.matches(pod.metadata.labels.as_ref()));
        if pods.is_empty() {
            self.events.event(budget.as_ref(), EventType::Normal, "NoPods", "No matching pods found");
        }
        let now = time::now();
        let scale = if plan::needs_scale(&budget) { self.expected_scale(&pods).await } else { Ok(0) };
        let planned = scale.and_then(|scale| Ok(plan::plan(&budget, &pods, scale, now)?));
        match planned {
            Ok((status, overdue, recheck)) => {
                for pod in overdue {
                    let text = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
                    self.events.event(pod.as_ref(), EventType::Warning, "NotDeleted", text);
                }
                self.write_status(&budget, status).await?;
                Ok(recheck.map_or(Outcome::Done, Outcome::RequeueAfter))
            }
            Err(error) => {
                let text = format!("Failed to calculate the number of expected pods: {error}");
                self.events.event(
                    budget.as_ref(),
                    EventType::Warning,
                    "CalculateExpectedPodCountFailed",
                    text,
                );
                self.write_status(&budget, plan::fail_safe(&budget, &error.to_string(), now)).await?;
                Err(error)
            }
        }
    }

    async fn write_status(
        &self,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<(), Error> {
        if budget.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let key = ObjectKey::of(budget);
        let budgets: Api<PodDisruptionBudget> =
            Api::namespaced(self.client.clone(), key.namespace_or_empty());
        let wanted = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        api::ignore_not_found(budgets.replace_status(&key.name, &PostParams::default(), &wanted).await)?;
        Ok(())
    }

    /// The number of pods that the controllers of `pods` want in all, each counted once.
    async fn expected_scale(&self, pods: &[Arc<Pod>]) -> Result<i32, Error> {
        let mut seen = HashSet::new();
        let mut sum = 0;
        for pod in pods {
            // A pod without a controller belongs to no scale.
            let Some(reference) = owner::controller_of(&pod.metadata) else { continue };
            let namespace = pod.metadata.namespace.as_deref();
            let (uid, replicas) = match self.known_scale(namespace, reference) {
                Some(found) => found,
                None if seen.contains(&reference.uid) => continue,
                None => (reference.uid.clone(), self.ask_scale(namespace, reference).await?),
            };
            if seen.insert(uid) {
                sum += replicas;
            }
        }
        Ok(sum)
    }

    /// Uid and replicas of a controller of a kind that we have in a cache; a deployment stands for its replica sets.
    fn known_scale(&self, namespace: Option<&str>, reference: &OwnerReference) -> Option<(String, i32)> {
        if let Some(rs) = owner::resolve(&self.replica_sets, namespace, reference) {
            let parent = owner::controller_of(&rs.metadata);
            if let Some(deployment) = parent.and_then(|r| owner::resolve(&self.deployments, namespace, r)) {
                let uid = deployment.metadata.uid.clone().unwrap_or_default();
                return Some((uid, deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)));
            }
            return Some((reference.uid.clone(), rs.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)));
        }
        if let Some(set) = owner::resolve(&self.stateful_sets, namespace, reference) {
            return Some((reference.uid.clone(), set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)));
        }
        let rc = owner::resolve(&self.controllers, namespace, reference)?;
        Some((reference.uid.clone(), rc.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)))
    }

    /// The scale subresource of a controller of any other kind.
    async fn ask_scale(&self, namespace: Option<&str>, reference: &OwnerReference) -> Result<i32, Error> {
        let found = discovery::discover(&self.client).await?;
        let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
        let resource =
            found.resources.iter().find(|f| f.group == group && f.kind == reference.kind).ok_or_else(
                || Error::Again(format!("{} does not implement the scale subresource", reference.kind)),
            )?;
        let objects: Api<DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            namespace.unwrap_or_default(),
            &resource.api_resource(),
        );
        let scale = objects.get_scale(&reference.name).await?;
        Ok(scale.spec.and_then(|s| s.replicas).unwrap_or(0))
    }

    /// A pod that was to be disrupted and is still there is to be disrupted no more.
    async fn clear_stale_target(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.pods.get_key(key) else { return Ok(Outcome::Done) };
        match plan::is_stale_target(&pod, time::now()) {
            Err(left) => Ok(Outcome::RequeueAfter(left)),
            Ok(false) => Ok(Outcome::Done),
            Ok(true) => {
                let pods: Api<Pod> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
                let condition = json!({"type": "DisruptionTarget", "status": "False",
                    "lastTransitionTime": time::time(time::now())});
                let patch =
                    json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
                let patched =
                    pods.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
                api::ignore_not_found(patched)?;
                Ok(Outcome::Done)
            }
        }
    }
}
