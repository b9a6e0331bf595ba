//! Removes pods that nobody else will: of nodes that are gone, and finished ones above a number (upstream's podgc).

mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Cache, Event, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;

use self::plan::{Why, judge, surplus};
use crate::Error;
use crate::common::{api, pods, time};
use crate::context::Context;

/// A node that is not known is waited for: its pods may have been seen before it (upstream's quarantineTime).
const QUARANTINE: Duration = Duration::from_secs(40);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Work {
    Pod(ObjectKey),
    Finished,
}

struct Controller {
    client: kube::Client,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    threshold: usize,
    /// Since when nodes that pods are bound to are unknown.
    missing: Mutex<HashMap<String, Instant>>,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let pods = context.informers.get::<Pod>();
    let nodes = context.informers.get::<Node>();
    pods::index_by_node(&pods);
    let queue = WorkQueue::new("pod-gc");
    let of_pods = queue.clone();
    pods.on_event(move |event| {
        let facts = |pod: &Pod| {
            (
                pods::node_name(pod).is_some(),
                pod.metadata.deletion_timestamp.is_some(),
                pods::is_finished(pod),
            )
        };
        let pod = match event {
            Event::Added(pod) => pod,
            Event::Updated { old, new } if facts(old) != facts(new) => new,
            _ => return,
        };
        of_pods.add(Work::Pod(ObjectKey::of(pod.as_ref())));
        if pods::is_finished(pod) {
            of_pods.add(Work::Finished);
        }
    });
    let (of_nodes, cache) = (queue.clone(), pods.cache());
    nodes.on_event(move |event| {
        let name = event.object().metadata.name.clone().unwrap_or_default();
        let taints = |node: &Node| node.spec.as_ref().and_then(|s| s.taints.clone());
        let matters = match event {
            Event::Added(_) => false,
            Event::Updated { old, new } => taints(old) != taints(new),
            Event::Deleted(_) => true,
        };
        if matters {
            pods::on_node(&cache, &name)
                .iter()
                .for_each(|pod| of_nodes.add(Work::Pod(ObjectKey::of(pod.as_ref()))));
        }
    });
    pods.synced().await;
    nodes.synced().await;
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        pods: pods.cache(),
        nodes: nodes.cache(),
        threshold: context.config.terminated_pod_gc_threshold,
        missing: Mutex::default(),
    });
    run_workers(&context.scope, queue, context.workers, move |work: Work| {
        let controller = controller.clone();
        async move {
            match work {
                Work::Pod(key) => controller.reconcile(&key).await,
                Work::Finished => controller.remove_finished().await,
            }
        }
    });
    Ok(())
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.pods.get_key(key) else { return Ok(Outcome::Done) };
        let node = pods::node_name(&pod).and_then(|name| self.nodes.get(None, name));
        let Some(why) = judge(&pod, node.as_deref()) else { return Ok(Outcome::Done) };
        if why == Why::Orphaned {
            let name = pods::node_name(&pod).unwrap_or_default();
            if let Some(left) = self.quarantine_left(name) {
                return Ok(Outcome::RequeueAfter(left));
            }
            let nodes: Api<Node> = Api::all(self.client.clone());
            if nodes.get_opt(name).await?.is_some() {
                return Ok(Outcome::Done);
            }
        }
        self.remove(&pod, key, why).await
    }

    /// How long the node must still be missing until it counts as gone.
    fn quarantine_left(&self, node: &str) -> Option<Duration> {
        let mut missing = self.missing.lock();
        missing.retain(|name, _| self.nodes.get(None, name).is_none());
        let since = *missing.entry(node.to_owned()).or_insert_with(Instant::now);
        QUARANTINE.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
    }

    async fn remove(&self, pod: &Pod, key: &ObjectKey, why: Why) -> Result<Outcome, Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
        if let Some(text) = why.disruption()
            && !pods::is_finished(pod)
        {
            // Whoever counts failed pods must see this one fail before it is gone.
            let condition = pods::disruption_target("DeletionByPodGC", text, time::now());
            let patch = json!({"metadata": {"uid": pod.metadata.uid},
                "status": {"phase": "Failed", "conditions": [condition]}});
            let patched =
                pods.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
            if api::ignore_not_found(patched)?.is_none() {
                return Ok(Outcome::Done);
            }
        }
        let options =
            DeleteParams { grace_period_seconds: Some(0), ..api::delete_uid(pod.metadata.uid.as_ref()) };
        api::ignore_not_found(pods.delete(&key.name, &options).await)?;
        Ok(Outcome::Done)
    }

    async fn remove_finished(&self) -> Result<Outcome, Error> {
        for pod in surplus(self.pods.list(), self.threshold) {
            let key = ObjectKey::of(pod.as_ref());
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
            let options =
                DeleteParams { grace_period_seconds: Some(0), ..api::delete_uid(pod.metadata.uid.as_ref()) };
            api::ignore_not_found(pods.delete(&key.name, &options).await)?;
        }
        Ok(Outcome::Done)
    }
}
