//! From informers to cache and queue: what each change of a node or pod means for scheduling.

use std::sync::Arc;

use client::{Event, Informer};
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;

use crate::framework::{Action, ClusterEvent, Resource};
use crate::pod_info::PodInfo;
use crate::queue::Queue;
use crate::snapshot::Cache;

/// Keeps `cache` and `queue` up to date.
pub fn follow(nodes: &Informer<Node>, pods: &Informer<Pod>, cache: Arc<Mutex<Cache>>, queue: Queue) {
    let (node_cache, node_queue) = (cache.clone(), queue.clone());
    nodes.on_event(move |event| on_node(event, &node_cache, &node_queue));
    pods.on_event(move |event| on_pod(event, &cache, &queue));
}

fn on_node(event: &Event<Node>, cache: &Mutex<Cache>, queue: &Queue) {
    let action = match event {
        Event::Added(node) => {
            cache.lock().set_node(node.clone());
            Action::ADD
        }
        Event::Updated { old, new } => {
            cache.lock().set_node(new.clone());
            node_changes(old, new)
        }
        Event::Deleted(node) => {
            cache.lock().remove_node(node.metadata.name.as_deref().unwrap_or_default());
            Action::DELETE
        }
    };
    if !action.is_empty() {
        queue.move_for(ClusterEvent::new(Resource::Node, action));
    }
}

/// A heartbeat changes nothing that scheduling looks at.
fn node_changes(old: &Node, new: &Node) -> Action {
    let mut action = Action::NONE;
    let allocatable = |node: &Node| node.status.as_ref().and_then(|s| s.allocatable.clone());
    let taints = |node: &Node| node.spec.as_ref().map(|s| (s.taints.clone(), s.unschedulable));
    if allocatable(old) != allocatable(new) {
        action = action.or(Action::UPDATE_ALLOCATABLE);
    }
    if old.metadata.labels != new.metadata.labels {
        action = action.or(Action::UPDATE_LABEL);
    }
    if taints(old) != taints(new) {
        action = action.or(Action::UPDATE_TAINT);
    }
    action
}

fn is_bound(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty())
}

/// A pod that has ended uses nothing any more.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn on_pod(event: &Event<Pod>, cache: &Mutex<Cache>, queue: &Queue) {
    let assigned = |action| ClusterEvent::new(Resource::AssignedPod, action);
    match event {
        Event::Added(pod) if !is_bound(pod) => {
            if !has_ended(pod) {
                nominate(pod, cache);
                queue.add(pod.clone(), None);
            }
        }
        Event::Added(pod) => {
            if !has_ended(pod) {
                cache.lock().set_pod(pod.clone());
                queue.move_for(assigned(Action::ADD));
            }
        }
        Event::Updated { old, new } if !is_bound(new) => {
            if has_ended(new) {
                cache.lock().remove_pod(uid(new));
                return queue.remove(uid(new));
            }
            nominate(new, cache);
            // Our own status writes come back here: only changes of metadata or spec may help.
            let action = pod_changes(old, new);
            let known = cache.lock().has_pod(uid(new));
            if !known && !action.is_empty() {
                queue.add(new.clone(), Some(ClusterEvent::new(Resource::UnscheduledPod, action)));
            }
        }
        Event::Updated { old, new } => {
            queue.remove(uid(new));
            if has_ended(new) {
                cache.lock().remove_pod(uid(new));
                if !has_ended(old) {
                    queue.move_for(assigned(Action::DELETE));
                }
                return;
            }
            cache.lock().set_pod(new.clone());
            let action = if is_bound(old) { pod_changes(old, new) } else { Action::ADD };
            if !action.is_empty() {
                queue.move_for(assigned(action));
            }
        }
        Event::Deleted(pod) => {
            queue.remove(uid(pod));
            cache.lock().remove_pod(uid(pod));
            if is_bound(pod) && !has_ended(pod) {
                queue.move_for(assigned(Action::DELETE));
            }
        }
    }
}

fn nominate(pod: &Arc<Pod>, cache: &Mutex<Cache>) {
    let node = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
    cache.lock().nominate(Arc::new(PodInfo::new(pod.clone())), node);
}

fn pod_changes(old: &Arc<Pod>, new: &Arc<Pod>) -> Action {
    let mut action = Action::NONE;
    if old.metadata.labels != new.metadata.labels {
        action = action.or(Action::UPDATE_LABEL);
    }
    if old.metadata.deletion_timestamp != new.metadata.deletion_timestamp {
        action = action.or(Action::UPDATE_OTHER);
    }
    if old.spec == new.spec {
        return action;
    }
    let gates = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.scheduling_gates.clone()).unwrap_or_default();
    let tolerations = |pod: &Pod| pod.spec.as_ref().and_then(|s| s.tolerations.clone()).unwrap_or_default();
    if gates(old) != gates(new) {
        action = action.or(Action::UPDATE_GATES);
    }
    if tolerations(old) != tolerations(new) {
        action = action.or(Action::UPDATE_TOLERATION);
    }
    let (before, after) = (PodInfo::new(old.clone()).requests, PodInfo::new(new.clone()).requests);
    if after.milli_cpu < before.milli_cpu || after.memory < before.memory {
        action = action.or(Action::SCALE_DOWN);
    }
    if action.is_empty() { Action::UPDATE_OTHER } else { action }
}
