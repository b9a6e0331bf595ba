//! Deployments: replica sets, one per template, between which pods move at the pace of the strategy (upstream's
//! pkg/controller/deployment).

mod act;
mod annotations;
mod observed;
mod plan;
mod progress;
mod rolling;
mod scale;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::{Cache, Event, EventType, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use self::observed::Observed;
use crate::Error;
use crate::common::selector::Matcher;
use crate::common::watching::{Owners, watch_keys, watch_owned};
use crate::common::{owner, pods, time};
use crate::context::Context;

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let deployments = context.informers.get::<Deployment>();
    let replica_sets = context.informers.get::<ReplicaSet>();
    let pods = context.informers.get::<Pod>();
    let queue = WorkQueue::new("deployment");
    watch_keys(&deployments, &queue);
    let owners = Owners {
        cache: deployments.cache(),
        queue: queue.clone(),
        expectations: None,
        selector: |d: &Deployment| selector_of(d),
    };
    watch_owned(&replica_sets, owners);
    owner::index_by_controller(&pods);
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        events: context.events.clone(),
        deployments: deployments.cache(),
        replica_sets: replica_sets.cache(),
        pods: pods.cache(),
    });
    wake_when_pods_are_gone(&pods, &controller, &queue);
    deployments.synced().await;
    replica_sets.synced().await;
    pods.synced().await;
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

struct Controller {
    client: kube::Client,
    events: client::EventRecorder,
    deployments: Cache<Deployment>,
    replica_sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
}

/// Strategy Recreate waits for the last pod of the old template to disappear.
fn wake_when_pods_are_gone(
    pods: &client::Informer<Pod>,
    controller: &Arc<Controller>,
    queue: &WorkQueue<ObjectKey>,
) {
    let (controller, queue) = (controller.clone(), queue.clone());
    pods.on_event(move |event| {
        let Event::Deleted(pod) = event else { return };
        let namespace = pod.metadata.namespace.as_deref();
        let deployment = owner::controller_of(&pod.metadata)
            .and_then(|r| owner::resolve(&controller.replica_sets, namespace, r))
            .and_then(|rs| {
                owner::resolve(&controller.deployments, namespace, owner::controller_of(&rs.metadata)?)
            });
        if let Some(deployment) = deployment
            && observed::is_recreate(&deployment)
        {
            queue.add(ObjectKey::of(deployment.as_ref()));
        }
    });
}

fn selector_of(deployment: &Deployment) -> Matcher {
    deployment
        .spec
        .as_ref()
        .and_then(|spec| Matcher::new(&spec.selector).ok())
        .unwrap_or_else(Matcher::nothing)
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(deployment) = self.deployments.get_key(key) else { return Ok(Outcome::Done) };
        let selector = selector_of(&deployment);
        if selector.is_empty() {
            let text = "This deployment is selecting all pods. A non-empty selector is required.";
            self.events.event(deployment.as_ref(), EventType::Warning, "SelectingAll", text);
            return self.observe_generation(&deployment).await;
        }
        let found = owner::candidates(&self.replica_sets, &deployment.metadata);
        let claims = owner::claim(&deployment.metadata, found, |rs: &ReplicaSet| {
            selector.matches(rs.metadata.labels.as_ref())
        });
        let replica_sets = owner::settle(&self.client, deployment.as_ref(), claims, None).await?;
        let busy = |rs: &ReplicaSet| {
            let pods = owner::controlled_by(&self.pods, rs.metadata.uid.as_deref().unwrap_or_default());
            pods.iter().any(|pod| !pods::is_finished(pod))
        };
        let observed = Observed::new(deployment, replica_sets, busy, time::now())?;
        let plan = plan::plan(&observed)?;
        self.act(&observed, plan).await
    }
}
