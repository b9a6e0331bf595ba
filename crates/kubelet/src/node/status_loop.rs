//! Writing the node's status when it changes, and every few minutes when it does not.

use std::sync::Arc;
use std::time::Duration;

use base::SharedClock;
use client::{EventRecorder, EventType, Informer};
use k8s_openapi::api::core::v1::{ContainerImage, Node, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use proto::cri::v1::{ListImagesRequest, StatusRequest};
use tokio::sync::watch;

use super::{Machine, NodeFacts, Pressure, RuntimeFacts, node_status};
use crate::config::Config;
use crate::cri::Cri;
use crate::events::node_reference;

/// Images told at most (`nodeStatusMaxImages`), and names of each.
const MAX_IMAGES: usize = 50;
const MAX_NAMES: usize = 5;
/// First pause while the runtime is not ready; it doubles up to the update frequency.
const NOT_READY_PAUSE: Duration = Duration::from_millis(20);

/// What the status is made from and written with.
#[derive(Clone)]
pub struct NodeStatusContext {
    /// The configuration.
    pub config: Arc<Config>,
    /// The API.
    pub client: kube::Client,
    /// The runtime.
    pub cri: Cri,
    /// The time.
    pub clock: SharedClock,
    /// For `NodeReady`.
    pub events: EventRecorder,
    /// The machine.
    pub machine: Machine,
    /// The system.
    pub system: NodeSystemInfo,
    /// The node's addresses.
    pub addresses: Vec<String>,
    /// What is short.
    pub pressure: watch::Receiver<Pressure>,
    /// What the runtime last said.
    pub runtime: Arc<Mutex<RuntimeFacts>>,
    /// Images as last listed.
    pub images: Arc<Mutex<Vec<ContainerImage>>>,
}

impl NodeStatusContext {
    /// The facts as they are now.
    pub fn facts(&self) -> NodeFacts {
        NodeFacts {
            name: self.config.node_name.clone(),
            addresses: self.addresses.clone(),
            machine: self.machine.clone(),
            system: self.system.clone(),
            port: self.config.listen.port(),
            runtime: self.runtime.lock().clone(),
            pressure: *self.pressure.borrow(),
            images: self.images.lock().clone(),
            now: Time(Timestamp::try_from(self.clock.now()).unwrap_or_default()),
        }
    }

    /// Asks the runtime how it is and what images it has.
    pub async fn look(&self) {
        let (status, images) = tokio::join!(
            self.cri.status(StatusRequest { verbose: false }),
            self.cri.list_images(ListImagesRequest::default())
        );
        *self.runtime.lock() = match status {
            Ok(status) => runtime_facts(status),
            Err(error) => RuntimeFacts {
                not_ready: vec![format!("container runtime is down: {error}")],
                ..RuntimeFacts::default()
            },
        };
        if let Ok(images) = images {
            *self.images.lock() = image_list(images.images);
        }
    }
}

fn runtime_facts(answer: proto::cri::v1::StatusResponse) -> RuntimeFacts {
    let conditions = answer.status.unwrap_or_default().conditions;
    let check = |kind: &str, what: &str| {
        let found = conditions.iter().find(|c| c.r#type == kind);
        match found {
            Some(c) if c.status => None,
            Some(c) => {
                Some(format!("{what} not ready: {kind}=false reason:{} message:{}", c.reason, c.message))
            }
            None => Some(format!("{what} not ready: the runtime does not tell {kind}")),
        }
    };
    let not_ready =
        [check("RuntimeReady", "container runtime"), check("NetworkReady", "container runtime network")];
    let handlers = answer.runtime_handlers.into_iter().map(|handler| {
        let features = handler.features.unwrap_or_default();
        (handler.name, features.recursive_read_only_mounts)
    });
    RuntimeFacts {
        not_ready: not_ready.into_iter().flatten().collect(),
        handlers: handlers.collect(),
        groups_policy: answer.features.is_some_and(|f| f.supplemental_groups_policy),
    }
}

fn image_list(mut images: Vec<proto::cri::v1::Image>) -> Vec<ContainerImage> {
    images.sort_by_key(|image| std::cmp::Reverse(image.size));
    let listed = images.into_iter().map(|image| {
        let mut names = image.repo_digests;
        names.extend(image.repo_tags);
        names.truncate(MAX_NAMES);
        ContainerImage { names: Some(names), size_bytes: Some(image.size as i64) }
    });
    listed.filter(|image| image.names.as_ref().is_some_and(|n| !n.is_empty())).take(MAX_IMAGES).collect()
}

/// Keeps the status of the node, for ever. A node that was there before (`adopted`) gets it at once. `changed` asks for
/// a look before its time.
pub async fn keep_status(
    context: NodeStatusContext,
    informer: Informer<Node>,
    registered: Node,
    adopted: bool,
    changed: Arc<tokio::sync::Notify>,
) {
    let frequency = context.config.node_status_update_frequency;
    let mut pressure = context.pressure.clone();
    let mut sent = registered.status.unwrap_or_default();
    let mut sent_at = context.clock.instant();
    if adopted {
        // What an earlier kubelet said is no sign of life of this one.
        let next = node_status(Some(&sent), &context.facts());
        match write(&context, &sent, &next).await {
            Ok(()) => sent = next,
            Err(error) => {
                tracing::warn!(%error, "cannot write the node's status");
                changed.notify_one();
            }
        }
    }
    let mut pause = NOT_READY_PAUSE;
    loop {
        let ready = context.runtime.lock().not_ready.is_empty();
        let wait = if ready { frequency } else { pause };
        pause = if ready { NOT_READY_PAUSE } else { (pause * 2).min(frequency) };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = changed.notified() => {}
            _ = pressure.changed() => {}
        }
        context.look().await;
        let base = informer.cache().get(None, &context.config.node_name).and_then(|n| n.status.clone());
        let base = base.unwrap_or_else(|| sent.clone());
        let next = node_status(Some(&base), &context.facts());
        let due =
            context.clock.instant().duration_since(sent_at) >= context.config.node_status_report_frequency;
        if !due && same_but_heartbeat(&base, &next) {
            continue;
        }
        match write(&context, &base, &next).await {
            Ok(()) => {
                tell_readiness(&context, &sent, &next);
                sent = next;
                sent_at = context.clock.instant();
            }
            Err(error) => tracing::warn!(%error, "cannot write the node's status"),
        }
    }
}

fn same_but_heartbeat(a: &NodeStatus, b: &NodeStatus) -> bool {
    let plain = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
            condition.last_transition_time = None;
        }
        // Compared as the API has it: empty lists and absent ones are the same.
        serde_json::to_value(status).unwrap_or_default()
    };
    plain(a) == plain(b)
}

async fn write(context: &NodeStatusContext, base: &NodeStatus, next: &NodeStatus) -> Result<(), kube::Error> {
    let (Ok(old), Ok(new)) = (serde_json::to_value(base), serde_json::to_value(next)) else { return Ok(()) };
    let mut changes = serde_json::Map::new();
    let empty = serde_json::Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    for (key, value) in new {
        if old.get(key) == Some(value) {
            continue;
        }
        let mut value = value.clone();
        if key == "addresses" {
            // Addresses merge by type, which two of them may share: the whole list is replaced.
            if let Some(list) = value.as_array_mut() {
                list.push(serde_json::json!({"$patch": "replace"}));
            }
        }
        // Maps are merged: what is no more must be said.
        if let (Some(value), Some(before)) = (value.as_object_mut(), old.get(key).and_then(|v| v.as_object()))
        {
            for name in before.keys() {
                value.entry(name).or_insert(serde_json::Value::Null);
            }
        }
        changes.insert(key.clone(), value);
    }
    let api: Api<Node> = Api::all(context.client.clone());
    let patch = Patch::Strategic(serde_json::json!({"status": changes}));
    api.patch_status(&context.config.node_name, &PatchParams::default(), &patch).await.map(drop)
}

fn tell_readiness(context: &NodeStatusContext, before: &NodeStatus, after: &NodeStatus) {
    let ready = |status: &NodeStatus| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == "Ready")
            .map(|c| c.status == "True")
            .unwrap_or(false)
    };
    let (was, is) = (ready(before), ready(after));
    if was != is {
        let reason = if is { "NodeReady" } else { "NodeNotReady" };
        let message = format!("Node {} status is now: {reason}", context.config.node_name);
        context.events.event_at(
            node_reference(&context.config.node_name),
            EventType::Normal,
            reason,
            message,
        );
    }
}
