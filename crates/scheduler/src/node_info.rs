//! A node with the pods on it and what they use.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::pod_info::{Amounts, HostPort, PodInfo};

/// A node as the filters see it. Immutable once in a snapshot; the cache changes a copy.
#[derive(Debug, Clone)]
pub struct NodeInfo {
    /// The node.
    pub node: Arc<Node>,
    /// What it can give.
    pub allocatable: Amounts,
    /// How many pods it takes.
    pub max_pods: i64,
    /// What its pods request.
    pub requested: Amounts,
    /// The same with defaults for pods that request nothing.
    pub nonzero: Amounts,
    /// Its pods, assumed ones included.
    pub pods: Vec<Arc<PodInfo>>,
}

impl NodeInfo {
    /// A node without pods.
    pub fn new(node: Arc<Node>) -> Self {
        let list = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
        let max_pods = list.and_then(|l| l.get("pods")).and_then(parse).unwrap_or(0);
        let allocatable = Amounts::from_list(list);
        Self {
            node,
            allocatable,
            max_pods,
            requested: Amounts::default(),
            nonzero: Amounts::default(),
            pods: Vec::new(),
        }
    }

    /// The same pods on a newer state of the node.
    pub fn with_node(&self, node: Arc<Node>) -> Self {
        let mut next = Self::new(node);
        self.pods.iter().for_each(|pod| next.add_pod(pod.clone()));
        next
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }

    /// One of its labels.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// Its taints.
    pub fn taints(&self) -> &[Taint] {
        self.node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default()
    }

    /// True if it takes no new pods (`spec.unschedulable`).
    pub fn is_unschedulable(&self) -> bool {
        self.node.spec.as_ref().and_then(|s| s.unschedulable).unwrap_or(false)
    }

    /// Host ports in use.
    pub fn ports(&self) -> impl Iterator<Item = &HostPort> {
        self.pods.iter().flat_map(|pod| &pod.ports)
    }

    /// Puts a pod on it.
    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests, 1);
        self.nonzero.add(&pod.nonzero, 1);
        self.pods.push(pod);
    }

    /// Takes a pod off it; false if it was not there.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(at) = self.pods.iter().position(|pod| pod.uid() == uid) else { return false };
        let pod = self.pods.swap_remove(at);
        self.requested.add(&pod.requests, -1);
        self.nonzero.add(&pod.nonzero, -1);
        true
    }
}

fn parse(text: &Text) -> Option<i64> {
    base::Quantity::parse(&text.0).ok().map(|q| q.value())
}
