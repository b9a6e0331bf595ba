//! The cache of nodes and pods, assumed pods included, and the snapshots that scheduling cycles work on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// The nodes at one moment. Taking one copies pointers; an unchanged node is shared with all earlier snapshots.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    nodes: Vec<Arc<NodeInfo>>,
    nominated: HashMap<String, Vec<Arc<PodInfo>>>,
}

impl Snapshot {
    /// Of these nodes.
    pub fn new(nodes: Vec<Arc<NodeInfo>>) -> Self {
        Self { nodes, nominated: HashMap::new() }
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> &[Arc<NodeInfo>] {
        &self.nodes
    }

    /// The pods for which room is being made on a node.
    pub fn nominated(&self, node: &str) -> &[Arc<PodInfo>] {
        self.nominated.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// A node by its name.
    pub fn get(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.nodes.binary_search_by(|node| node.name().cmp(name)).ok().map(|at| &self.nodes[at])
    }
}

/// What the scheduler knows of nodes and pods. A pod is *assumed* on its node from the moment it is chosen until the
/// API server confirms it, so that the next pod does not take its place.
#[derive(Default)]
pub struct Cache {
    nodes: BTreeMap<String, Arc<NodeInfo>>,
    pods: HashMap<String, Placed>,
    /// Pods of nodes that are not known, or not any more.
    homeless: HashMap<String, Vec<Arc<PodInfo>>>,
    /// Pods without a node for which room is being made on one, by their uid.
    nominated: HashMap<String, (String, Arc<PodInfo>)>,
}

struct Placed {
    node: String,
    assumed: bool,
}

impl Cache {
    /// The nodes now.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new(self.nodes.values().cloned().collect());
        for (node, pod) in self.nominated.values() {
            snapshot.nominated.entry(node.clone()).or_default().push(pod.clone());
        }
        snapshot
    }

    /// A node is new or has changed; gives what was known of it.
    pub fn set_node(&mut self, node: Arc<Node>) -> Option<Arc<Node>> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let old = self.nodes.get(&name);
        let known = old.map(|info| info.node.clone());
        let mut info = old.map_or_else(|| NodeInfo::new(node.clone()), |old| old.with_node(node.clone()));
        for pod in self.homeless.remove(&name).into_iter().flatten() {
            info.add_pod(pod);
        }
        self.nodes.insert(name, Arc::new(info));
        known
    }

    /// A node is gone. Its pods are kept until they are deleted too.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.remove(name)
            && !info.pods.is_empty()
        {
            self.homeless.insert(name.to_owned(), info.pods.clone());
        }
    }

    /// Room is being made for `pod` on `node`; None takes that back.
    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: Option<&str>) {
        let uid = pod.uid().to_owned();
        match node.filter(|name| !name.is_empty() && !self.pods.contains_key(&uid)) {
            Some(node) => drop(self.nominated.insert(uid, (node.to_owned(), pod))),
            None => drop(self.nominated.remove(&uid)),
        }
    }

    /// Takes `pod` as running on `node` before the API server says so.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.place(pod, node, true);
    }

    /// Takes back an assumption that did not come true. A confirmed pod stays.
    pub fn forget(&mut self, uid: &str) {
        if self.pods.get(uid).is_some_and(|placed| placed.assumed) {
            self.remove_pod(uid);
        }
    }

    /// The API server says that `pod` is on its node.
    pub fn set_pod(&mut self, pod: Arc<Pod>) {
        let info = Arc::new(PodInfo::new(pod));
        if let Some(node) = info.node_name().map(str::to_owned) {
            self.place(info, &node, false);
        }
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: &str, assumed: bool) {
        self.nominated.remove(pod.uid());
        let uid = pod.uid().to_owned();
        self.remove_pod(&uid);
        match self.nodes.get_mut(node) {
            Some(info) => Arc::make_mut(info).add_pod(pod),
            None => self.homeless.entry(node.to_owned()).or_default().push(pod),
        }
        self.pods.insert(uid, Placed { node: node.to_owned(), assumed });
    }

    /// A pod is gone or has ended.
    pub fn remove_pod(&mut self, uid: &str) {
        self.nominated.remove(uid);
        let Some(placed) = self.pods.remove(uid) else { return };
        if let Some(info) = self.nodes.get_mut(&placed.node) {
            Arc::make_mut(info).remove_pod(uid);
        }
        if let Some(pods) = self.homeless.get_mut(&placed.node) {
            pods.retain(|pod| pod.uid() != uid);
            if pods.is_empty() {
                self.homeless.remove(&placed.node);
            }
        }
    }

    /// True if the pod is on a node, confirmed or assumed.
    pub fn has_pod(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }
}
