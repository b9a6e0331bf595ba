//! Watches over nodes: says so when one is silent, and taints those that are in trouble (upstream's nodelifecycle).

mod health;
mod tainting;
mod zones;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use client::{
    Cache, Event, EventRecorder, EventType, Informer, ObjectKey, Outcome, Selector, WorkQueue, run_workers,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeStatus, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::json;

use self::health::{Grace, Health, judge, ready_status};
use self::tainting::Eviction;
use self::zones::Pace;
use crate::common::{api, conditions, pods, time};
use crate::context::Context;
use crate::{Config, Error};

/// Where kubelets keep their leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";

struct Controller {
    config: Arc<Config>,
    client: kube::Client,
    events: EventRecorder,
    nodes: Cache<Node>,
    pods: Cache<Pod>,
    heard: Arc<Mutex<HashMap<String, Instant>>>,
    pace: Mutex<Pace>,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let nodes = context.informers.get::<Node>();
    let leases = context.informers.get_selected::<Lease>(Selector::namespace(LEASE_NAMESPACE));
    let pods = context.informers.get::<Pod>();
    pods::index_by_node(&pods);
    let queue = WorkQueue::new("node-lifecycle");
    let heard = Arc::new(Mutex::new(HashMap::new()));
    listen(&nodes, &leases, &heard, &queue, &context.events);
    nodes.synced().await;
    leases.synced().await;
    pods.synced().await;
    let controller = Arc::new(Controller {
        config: context.config.clone(),
        client: context.client.clone(),
        events: context.events.clone(),
        nodes: nodes.cache(),
        pods: pods.cache(),
        heard,
        pace: Mutex::default(),
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

/// Notes when a node is heard of: by its lease, or by a heartbeat in its status. Clocks are not compared; what counts
/// is when we see a change.
fn listen(
    nodes: &Informer<Node>,
    leases: &Informer<Lease>,
    heard: &Arc<Mutex<HashMap<String, Instant>>>,
    queue: &WorkQueue<ObjectKey>,
    events: &EventRecorder,
) {
    let of_lease = heard.clone();
    leases.on_event(move |event| {
        if let Event::Added(lease) | Event::Updated { new: lease, .. } = event {
            let name = lease.metadata.name.clone().unwrap_or_default();
            of_lease.lock().insert(name, Instant::now());
        }
    });
    let (heard, queue, events, cache) = (heard.clone(), queue.clone(), events.clone(), nodes.cache());
    nodes.on_event(move |event| {
        let node = event.object();
        let same_readiness =
            matches!(event, Event::Updated { old, new } if ready_status(old) == ready_status(new));
        if !same_readiness {
            // How its zone is decides whether others are evicted.
            let troubled = cache.list_where(|other| ready_status(other) != "True");
            troubled.iter().for_each(|other| queue.add(ObjectKey::of(other.as_ref())));
        }
        let name = node.metadata.name.clone().unwrap_or_default();
        match event {
            Event::Added(_) => {
                heard.lock().entry(name.clone()).or_insert_with(Instant::now);
                let text = format!("Node {name} event: Registered Node {name} in Controller");
                events.event(node.as_ref(), EventType::Normal, "RegisteredNode", text);
            }
            Event::Updated { old, new } if heartbeat(old) != heartbeat(new) => {
                heard.lock().insert(name.clone(), Instant::now());
            }
            Event::Updated { .. } => {}
            Event::Deleted(_) => {
                heard.lock().remove(&name);
                let text = format!("Node {name} event: Removing Node {name} from Controller");
                events.event(node.as_ref(), EventType::Normal, "RemovingNode", text);
            }
        }
        queue.add(ObjectKey::cluster(name));
    });
}

fn heartbeat(node: &Node) -> Option<k8s_openapi::jiff::Timestamp> {
    let list = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions::find(list, "Ready").and_then(|c| c.last_heartbeat_time.as_ref()).map(|t| t.0)
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(node) = self.nodes.get_key(key) else { return Ok(Outcome::Done) };
        let silent_for = self.heard.lock().get(&key.name).map(Instant::elapsed).unwrap_or_default();
        let grace = Grace {
            running: self.config.node_monitor_grace_period,
            starting: self.config.node_startup_grace_period,
        };
        let wait = match judge(&node, silent_for, grace, time::now()) {
            Health::Fresh(left) => Some(left),
            Health::Silent => None,
            Health::Lost(status) => {
                // Taints follow from the conditions, so they are planned when these are written.
                self.declare_lost(&node, *status).await?;
                return Ok(Outcome::Done);
            }
        };
        if ready_status(&node) != "True" {
            self.mark_pods_not_ready(&key.name).await?;
        }
        let later = self.taint(&node).await?;
        Ok(time::earlier(wait, later).map_or(Outcome::Done, Outcome::RequeueAfter))
    }

    async fn declare_lost(&self, node: &Node, status: NodeStatus) -> Result<(), Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let name = node.metadata.name.clone().unwrap_or_default();
        let lost = Node { status: Some(status), ..node.clone() };
        if api::ignore_not_found(nodes.replace_status(&name, &PostParams::default(), &lost).await)?.is_some()
            && ready_status(node) == "True"
        {
            let text = format!("Node {name} status is now: NodeNotReady");
            self.events.event(node, EventType::Normal, "NodeNotReady", text);
        }
        Ok(())
    }

    /// Services must not send to pods of a node that may be dead.
    async fn mark_pods_not_ready(&self, node: &str) -> Result<(), Error> {
        for pod in pods::on_node(&self.pods, node).iter().filter(|pod| pods::is_ready(pod)) {
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
            let condition =
                json!({"type": "Ready", "status": "False", "lastTransitionTime": time::time(time::now())});
            let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
            let patched =
                pods.patch_status(pods::name(pod), &PatchParams::default(), &Patch::Strategic(patch)).await;
            if api::ignore_not_found(patched)?.is_some() {
                self.events.event(pod.as_ref(), EventType::Warning, "NodeNotReady", "Node is not ready");
            }
        }
        Ok(())
    }

    /// Writes taints; says when to come back if others are evicted first.
    async fn taint(&self, node: &Node) -> Result<Option<std::time::Duration>, Error> {
        let (eviction, later) = if tainting::eviction_taint(node).is_none() {
            (Eviction::Allowed, None)
        } else {
            let zone = zones::zone_of(node);
            let rate = zones::rate(&self.nodes.list(), &zone, &self.config);
            match rate {
                // What is evicted already stays so without using up the zone's pace.
                Some(_) if tainting::is_evicted(node) => (Eviction::Allowed, None),
                _ => self.pace.lock().ask(&zone, rate, Instant::now()),
            }
        };
        if let Some(taints) = tainting::plan(node, eviction, time::now()) {
            let nodes: Api<Node> = Api::all(self.client.clone());
            let name = node.metadata.name.clone().unwrap_or_default();
            let version = &node.metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
            let patched = nodes.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
            api::ignore_not_found(patched)?;
        }
        Ok(later)
    }
}
