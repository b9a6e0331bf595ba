//! Tells kubelets for how long they may cache Secrets and ConfigMaps, by the size of the cluster (upstream's ttl).

use client::{Event, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::Error;
use crate::common::api;
use crate::context::Context;

/// Seconds, as a node annotation.
const TTL_ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";
/// Up to so many nodes, so many seconds.
const STEPS: [(usize, u32); 6] =
    [(100, 0), (500, 15), (1000, 30), (2000, 60), (10_000, 300), (usize::MAX, 600)];

/// The annotation that a node is to have in a cluster of so many nodes; None if it has it.
fn plan(node: &Node, nodes: usize) -> Option<String> {
    let (_, seconds) = STEPS.iter().find(|(most, _)| nodes <= *most)?;
    let wanted = seconds.to_string();
    let present = node.metadata.annotations.as_ref().and_then(|a| a.get(TTL_ANNOTATION));
    (present != Some(&wanted)).then_some(wanted)
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let nodes = context.informers.get::<Node>();
    let queue = WorkQueue::new("node-ttl");
    let (of_nodes, cache) = (queue.clone(), nodes.cache());
    nodes.on_event(move |event| {
        let key = ObjectKey::of(event.object().as_ref());
        let at_step =
            STEPS.iter().any(|(most, _)| cache.len() == *most || cache.len() == most.saturating_add(1));
        match event {
            Event::Updated { old, new } if old.metadata.annotations == new.metadata.annotations => {}
            // Only at a step does a node more or less change anything for the others.
            Event::Added(_) | Event::Deleted(_) if at_step => {
                cache.list().iter().for_each(|node| of_nodes.add(ObjectKey::of(node.as_ref())));
            }
            _ => of_nodes.add(key),
        }
    });
    nodes.synced().await;
    let (cache, client) = (nodes.cache(), context.client.clone());
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let (cache, client) = (cache.clone(), client.clone());
        async move {
            if let Some(wanted) = cache.get_key(&key).and_then(|node| plan(&node, cache.len())) {
                let nodes: Api<Node> = Api::all(client);
                let patch = Patch::Merge(json!({"metadata": {"annotations": {TTL_ANNOTATION: wanted}}}));
                api::ignore_not_found(nodes.patch(&key.name, &PatchParams::default(), &patch).await)?;
            }
            Ok::<_, Error>(Outcome::Done)
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_clusters_cache_longer() {
        let node = Node::default();
        for (nodes, expected) in [(1, "0"), (100, "0"), (101, "15"), (20_000, "600")] {
            assert_eq!(plan(&node, nodes).as_deref(), Some(expected), "{nodes}");
        }
    }
}
