//! Deletes pods that do not tolerate a NoExecute taint of their node (upstream's tainteviction).

mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use client::{Cache, Event, EventRecorder, EventType, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;

use self::plan::{Verdict, plan};
use crate::Error;
use crate::common::{api, pods, time};
use crate::context::Context;

struct Controller {
    client: kube::Client,
    events: EventRecorder,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    /// Since when pods that may stay for a while are under a taint, by uid.
    since: Mutex<HashMap<String, Instant>>,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let pods = context.informers.get::<Pod>();
    let nodes = context.informers.get::<Node>();
    pods::index_by_node(&pods);
    let queue = WorkQueue::new("taint-eviction");
    let of_pods = queue.clone();
    pods.on_event(move |event| {
        let placed = |pod: &Pod| {
            (pods::node_name(pod).map(str::to_owned), pod.spec.as_ref().and_then(|s| s.tolerations.clone()))
        };
        let pod = match event {
            Event::Added(pod) | Event::Deleted(pod) => pod,
            Event::Updated { old, new } if placed(old) != placed(new) => new,
            Event::Updated { .. } => return,
        };
        of_pods.add(ObjectKey::of(pod.as_ref()));
    });
    let (of_nodes, cache) = (queue.clone(), pods.cache());
    nodes.on_event(move |event| {
        let taints = |node: &Node| node.spec.as_ref().and_then(|s| s.taints.clone());
        if let Event::Updated { old, new } = event
            && taints(old) == taints(new)
        {
            return;
        }
        let name = event.object().metadata.name.clone().unwrap_or_default();
        for pod in pods::on_node(&cache, &name) {
            of_nodes.add(ObjectKey::of(pod.as_ref()));
        }
    });
    pods.synced().await;
    nodes.synced().await;
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        events: context.events.clone(),
        pods: pods.cache(),
        nodes: nodes.cache(),
        since: Mutex::default(),
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let pod = self.pods.get_key(key).filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let node = pod.as_ref().and_then(|pod| self.nodes.get(None, pods::node_name(pod)?));
        let (Some(pod), Some(node)) = (pod, node) else {
            self.forget_gone();
            return Ok(Outcome::Done);
        };
        match plan(&pod, &node) {
            Verdict::Stay => {
                if self.since.lock().remove(pods::uid(&pod)).is_some() {
                    let text = format!("Cancelling deletion of Pod {key}");
                    self.events.event(pod.as_ref(), EventType::Normal, "TaintManagerEviction", text);
                }
                Ok(Outcome::Done)
            }
            Verdict::Go => self.evict(&pod, key).await,
            Verdict::StayFor(limit) => {
                let since = *self.since.lock().entry(pods::uid(&pod).to_owned()).or_insert_with(Instant::now);
                match limit.checked_sub(since.elapsed()) {
                    Some(left) if !left.is_zero() => Ok(Outcome::RequeueAfter(left)),
                    _ => self.evict(&pod, key).await,
                }
            }
        }
    }

    async fn evict(&self, pod: &Pod, key: &ObjectKey) -> Result<Outcome, Error> {
        let text = format!("Marking for deletion Pod {key}");
        self.events.event(pod, EventType::Normal, "TaintManagerEviction", text);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
        let condition = pods::disruption_target(
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
            time::now(),
        );
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let patched = pods.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        if api::ignore_not_found(patched)?.is_some() {
            api::ignore_not_found(pods.delete(&key.name, &api::delete_uid(pod.metadata.uid.as_ref())).await)?;
        }
        self.since.lock().remove(pods::uid(pod));
        Ok(Outcome::Done)
    }

    /// Pods that went by themselves are not remembered.
    fn forget_gone(&self) {
        let mut since = self.since.lock();
        if !since.is_empty() {
            let present: std::collections::HashSet<String> =
                self.pods.list().iter().map(|pod| pods::uid(pod).to_owned()).collect();
            since.retain(|uid, _| present.contains(uid));
        }
    }
}
