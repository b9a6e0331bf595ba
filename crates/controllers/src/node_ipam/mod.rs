//! Gives every node its ranges of pod addresses (upstream's nodeipam, RangeAllocator).

mod plan;

use std::collections::HashSet;
use std::sync::Arc;

use client::{Cache, EventRecorder, EventType, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;

use self::plan::Range;
use crate::Error;
use crate::common::api;
use crate::common::watching::watch_keys;
use crate::context::Context;

struct Controller {
    client: kube::Client,
    events: EventRecorder,
    nodes: Cache<Node>,
    /// The cluster's ranges, each with the prefix length of a node's part.
    ranges: Vec<(Range, u8)>,
    services: Vec<Range>,
    /// Ranges given out that the cache may not show yet, by node.
    given: Mutex<std::collections::HashMap<String, Vec<Range>>>,
}

/// Starts the controller, if ranges are to be allocated.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    if !context.config.allocate_node_cidrs {
        return Ok(());
    }
    let parse = |text: &String| Range::parse(text).map_err(|e| Error::Again(e.to_string()));
    let ranges: Vec<Range> = context.config.cluster_cidrs.iter().map(parse).collect::<Result<_, _>>()?;
    let services: Vec<Range> = context.config.service_cidrs.iter().map(parse).collect::<Result<_, _>>()?;
    let (v4, v6) = (context.config.node_cidr_mask_size_ipv4, context.config.node_cidr_mask_size_ipv6);
    let nodes = context.informers.get::<Node>();
    let queue = WorkQueue::new("node-ipam");
    watch_keys(&nodes, &queue);
    nodes.synced().await;
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        events: context.events.clone(),
        nodes: nodes.cache(),
        ranges: ranges.into_iter().map(|r| (r, if r.is_v6() { v6 } else { v4 })).collect(),
        services,
        given: Mutex::default(),
    });
    // One worker: a range must not be given twice.
    run_workers(&context.scope, queue, 1, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

fn ranges_of(node: &Node) -> Vec<Range> {
    let spec = node.spec.clone().unwrap_or_default();
    let mut all = spec.pod_cidrs.unwrap_or_default();
    all.extend(spec.pod_cidr);
    all.iter().filter_map(|text| Range::parse(text).ok()).collect()
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let node = self.nodes.get_key(key);
        let Some(node) = node.filter(|n| ranges_of(n).is_empty()) else {
            self.given.lock().remove(&key.name);
            return Ok(Outcome::Done);
        };
        let cut = match self.cut(&key.name) {
            Ok(cut) => cut,
            Err(error) => {
                let text = format!("Node {} status is now: CIDRNotAvailable", key.name);
                self.events.event(node.as_ref(), EventType::Normal, "CIDRNotAvailable", text);
                return Err(Error::Again(error.to_string()));
            }
        };
        let texts: Vec<String> = cut.iter().map(Range::to_string).collect();
        let patch = json!({"metadata": {"uid": node.metadata.uid}, "spec": {"podCIDR": texts.first(), "podCIDRs": texts}});
        let nodes: Api<Node> = Api::all(self.client.clone());
        let patched = nodes.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        if let Err(error) = api::ignore_not_found(patched) {
            self.given.lock().remove(&key.name);
            let text = format!("Node {} status is now: CIDRAssignmentFailed", key.name);
            self.events.event(node.as_ref(), EventType::Normal, "CIDRAssignmentFailed", text);
            return Err(error.into());
        }
        Ok(Outcome::Done)
    }

    fn cut(&self, node: &str) -> Result<Vec<Range>, plan::RangeError> {
        let mut given = self.given.lock();
        if let Some(known) = given.get(node) {
            return Ok(known.clone());
        }
        let mut taken: HashSet<Range> = self.nodes.list().iter().flat_map(|n| ranges_of(n)).collect();
        taken.extend(given.values().flatten());
        taken.extend(&self.services);
        let cut: Vec<Range> =
            self.ranges.iter().map(|(range, prefix)| range.cut(*prefix, &taken)).collect::<Result<_, _>>()?;
        given.insert(node.to_owned(), cut.clone());
        Ok(cut)
    }
}
