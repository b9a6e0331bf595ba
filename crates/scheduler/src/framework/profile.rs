//! A profile: the plugins of one scheduler name, run point by point.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::{
    Bind, ClusterEvent, Code, CycleState, Diagnosis, Filter, Permission, Permit, Plugin, Points, PostBind,
    PostFilter, PreBind, PreEnqueue, PreFilter, PreScore, QueueSort, Reserve, Score, Status, Verdict,
};
use crate::Error;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;

/// A node and what all Score plugins together think of it.
#[derive(Debug, Clone)]
pub struct ScoredNode {
    /// Its name.
    pub name: String,
    /// The weighted sum.
    pub total: i64,
}

/// The plugins of a scheduler name, in the order in which they run.
pub struct Profile {
    /// `spec.schedulerName` of the pods it is for.
    pub scheduler_name: String,
    queue_sort: Arc<dyn QueueSort>,
    pre_enqueue: Vec<Arc<dyn PreEnqueue>>,
    pre_filter: Vec<Arc<dyn PreFilter>>,
    filter: Vec<Arc<dyn Filter>>,
    post_filter: Vec<Arc<dyn PostFilter>>,
    pre_score: Vec<Arc<dyn PreScore>>,
    score: Vec<(Arc<dyn Score>, i64)>,
    reserve: Vec<Arc<dyn Reserve>>,
    permit: Vec<Arc<dyn Permit>>,
    pre_bind: Vec<Arc<dyn PreBind>>,
    bind: Vec<Arc<dyn Bind>>,
    post_bind: Vec<Arc<dyn PostBind>>,
    interests: Vec<(&'static str, Vec<ClusterEvent>)>,
}

impl Profile {
    /// A profile of `plugins`, each with the weight of its score.
    pub fn new(scheduler_name: &str, plugins: Vec<(Arc<dyn Plugin>, i64)>) -> Result<Self, Error> {
        let interests = plugins.iter().map(|(plugin, _)| (plugin.name(), plugin.events())).collect();
        let points: Vec<(Points, i64)> =
            plugins.into_iter().map(|(p, weight)| (p.points(), weight)).collect();
        let mut sorts: Vec<_> = points.iter().filter_map(|(p, _)| p.queue_sort.clone()).collect();
        let queue_sort = match (sorts.pop(), sorts.is_empty()) {
            (Some(one), true) => one,
            _ => return Err(Error::QueueSort(scheduler_name.to_owned())),
        };
        let profile = Self {
            scheduler_name: scheduler_name.to_owned(),
            queue_sort,
            pre_enqueue: points.iter().filter_map(|(p, _)| p.pre_enqueue.clone()).collect(),
            pre_filter: points.iter().filter_map(|(p, _)| p.pre_filter.clone()).collect(),
            filter: points.iter().filter_map(|(p, _)| p.filter.clone()).collect(),
            post_filter: points.iter().filter_map(|(p, _)| p.post_filter.clone()).collect(),
            pre_score: points.iter().filter_map(|(p, _)| p.pre_score.clone()).collect(),
            score: points.iter().filter_map(|(p, weight)| Some((p.score.clone()?, *weight))).collect(),
            reserve: points.iter().filter_map(|(p, _)| p.reserve.clone()).collect(),
            permit: points.iter().filter_map(|(p, _)| p.permit.clone()).collect(),
            pre_bind: points.iter().filter_map(|(p, _)| p.pre_bind.clone()).collect(),
            bind: points.iter().filter_map(|(p, _)| p.bind.clone()).collect(),
            post_bind: points.iter().filter_map(|(p, _)| p.post_bind.clone()).collect(),
            interests,
        };
        if profile.bind.is_empty() {
            return Err(Error::NoBind(scheduler_name.to_owned()));
        }
        Ok(profile)
    }

    /// The order of its pods in the queue.
    pub fn queue_sort(&self) -> &Arc<dyn QueueSort> {
        &self.queue_sort
    }

    /// True if one of `plugins` waits for `event`, or if nobody said who refused.
    pub fn is_of_interest(&self, event: ClusterEvent, plugins: &[&'static str]) -> bool {
        plugins.is_empty()
            || self
                .interests
                .iter()
                .filter(|(name, _)| plugins.contains(name))
                .any(|(_, events)| events.iter().any(|interest| interest.matches(event)))
    }

    /// The first refusal of a pod that wants to enter the active queue.
    pub fn run_pre_enqueue(&self, pod: &Pod) -> Verdict {
        self.pre_enqueue.iter().try_for_each(|p| p.pre_enqueue(pod).map_err(|s| s.by(p.name())))
    }

    /// Prepares the filters; gives the nodes that are left to try, None for all.
    pub fn run_pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<Option<BTreeSet<String>>, Status> {
        let mut nodes: Option<BTreeSet<String>> = None;
        for plugin in &self.pre_filter {
            let result = plugin.pre_filter(state, pod, snapshot).map_err(|s| s.by(plugin.name()))?;
            if result.skip {
                state.skip_filter.insert(plugin.name());
            }
            if let Some(only) = result.nodes {
                let left = nodes.map_or(only.clone(), |have| &have & &only);
                if left.is_empty() {
                    let reason = format!("node(s) didn't satisfy plugin {}", plugin.name());
                    return Err(Status::unresolvable(reason).by(plugin.name()));
                }
                nodes = Some(left);
            }
        }
        Ok(nodes)
    }

    /// The first refusal of a node.
    pub fn run_filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let active = self.filter.iter().filter(|p| !state.skip_filter.contains(p.name()));
        active.into_iter().try_for_each(|p| p.filter(state, pod, node).map_err(|s| s.by(p.name())))
    }

    /// As [`Profile::run_filter`], also with the pods of at least the same priority for which room is being made on the
    /// node: they come, but may also not (upstream's RunFilterPluginsWithNominatedPods).
    pub fn run_filter_with_nominated(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        node: &NodeInfo,
        nominated: &[Arc<PodInfo>],
    ) -> Verdict {
        let comes = |other: &&Arc<PodInfo>| other.uid() != pod.uid() && other.priority() >= pod.priority();
        let mut coming = nominated.iter().filter(comes).peekable();
        if coming.peek().is_some() {
            let (mut full_state, mut full) = (state.clone(), node.clone());
            for other in coming {
                full.add_pod(other.clone());
                self.run_what_if(&mut full_state, pod, other, &full, true);
            }
            self.run_filter(&full_state, pod, &full)?;
        }
        self.run_filter(state, pod, node)
    }

    /// Tells the filters of `pod` that `other` comes to, or leaves, `node`.
    pub fn run_what_if(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        other: &PodInfo,
        node: &NodeInfo,
        added: bool,
    ) {
        self.pre_filter.iter().for_each(|p| p.what_if(state, pod, other, node, added));
    }

    /// Tries to make room; the first plugin that nominates a node, and all messages.
    pub async fn run_post_filter(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
        diagnosis: &Diagnosis,
    ) -> super::PostFilterResult {
        let mut messages = Vec::new();
        for plugin in &self.post_filter {
            let result = plugin.post_filter(self, state, pod, snapshot, diagnosis).await;
            if result.nominated_node.is_some() {
                return result;
            }
            messages.push(result.message);
        }
        super::PostFilterResult { nominated_node: None, message: messages.join(", ") }
    }

    /// The scores of `nodes`, in their order.
    pub fn run_score(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &[Arc<NodeInfo>],
    ) -> Result<Vec<ScoredNode>, Status> {
        for plugin in &self.pre_score {
            if plugin.pre_score(state, pod, nodes).map_err(|s| s.by(plugin.name()))? {
                state.skip_score.insert(plugin.name());
            }
        }
        let mut totals = vec![0_i64; nodes.len()];
        for (plugin, weight) in self.score.iter().filter(|(p, _)| !state.skip_score.contains(p.name())) {
            let mut scores: Vec<i64> = nodes.iter().map(|node| plugin.score(state, pod, node)).collect();
            plugin.normalize(state, pod, &mut scores);
            totals.iter_mut().zip(&scores).for_each(|(total, score)| *total += weight * score);
        }
        let named = nodes.iter().zip(totals);
        Ok(named.map(|(node, total)| ScoredNode { name: node.name().to_owned(), total }).collect())
    }

    /// Reserves at every plugin; on a refusal what was reserved is given back.
    pub fn run_reserve(&self, state: &mut CycleState, pod: &PodInfo, node: &str) -> Verdict {
        for plugin in &self.reserve {
            if let Err(status) = plugin.reserve(state, pod, node) {
                self.run_unreserve(state, pod, node);
                return Err(status.by(plugin.name()));
            }
        }
        Ok(())
    }

    /// Gives back at every plugin, in reverse order.
    pub fn run_unreserve(&self, state: &CycleState, pod: &PodInfo, node: &str) {
        self.reserve.iter().rev().for_each(|p| p.unreserve(state, pod, node));
    }

    /// Asks for permission; the plugins that want to wait, with how long.
    pub fn run_permit(
        &self,
        state: &CycleState,
        pod: &PodInfo,
        node: &str,
    ) -> Result<Vec<(&'static str, Duration)>, Status> {
        let mut waits = Vec::new();
        for plugin in &self.permit {
            match plugin.permit(state, pod, node).map_err(|s| s.by(plugin.name()))? {
                Permission::Allow => {}
                Permission::Wait(timeout) => waits.push((plugin.name(), timeout)),
            }
        }
        Ok(waits)
    }

    /// Runs PreBind, then the first Bind that does not skip, then PostBind.
    pub async fn run_bind(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Verdict {
        for plugin in &self.pre_bind {
            plugin.pre_bind(state, pod, node).await.map_err(|s| s.by(plugin.name()))?;
        }
        let mut verdict = Err(Status::error("no plugin bound the pod"));
        for plugin in &self.bind {
            verdict = plugin.bind(state, pod, node).await.map_err(|s| s.by(plugin.name()));
            if !matches!(&verdict, Err(status) if status.code == Code::Skip) {
                break;
            }
        }
        verdict?;
        self.post_bind.iter().for_each(|p| p.post_bind(state, pod, node));
        Ok(())
    }
}
