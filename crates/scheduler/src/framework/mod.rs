//! The scheduling framework: the extension points of upstream's `pkg/scheduler/framework`, and the profile that runs
//! the plugins registered at them.
//!
//! A plugin implements the traits of the points it extends and says so in [`Plugin::points`]. Points before binding
//! run in one task and must not wait; those of the binding cycle are asynchronous.

mod event;
mod profile;
mod state;
mod status;

pub use event::{Action, ClusterEvent, Resource};
pub use profile::{Profile, ScoredNode};
pub use state::CycleState;
pub use status::{Code, Diagnosis, Status, Verdict};

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;

use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;

/// The highest score a plugin gives a node; the lowest is 0.
pub const MAX_NODE_SCORE: i64 = 100;

/// A plugin and the points it extends.
pub trait Plugin: Send + Sync + 'static {
    /// Upstream's name, e.g. `NodeResourcesFit`.
    fn name(&self) -> &'static str;
    /// Itself at every point it extends.
    fn points(self: Arc<Self>) -> Points;
    /// Which changes of the cluster may make a pod schedulable that this plugin refused (EnqueueExtensions).
    fn events(&self) -> Vec<ClusterEvent> {
        Vec::new()
    }
}

/// One plugin at each point, or none.
#[derive(Clone, Default)]
pub struct Points {
    /// May a pod enter the active queue?
    pub pre_enqueue: Option<Arc<dyn PreEnqueue>>,
    /// Order of the active queue.
    pub queue_sort: Option<Arc<dyn QueueSort>>,
    /// Work done once per pod before nodes are filtered.
    pub pre_filter: Option<Arc<dyn PreFilter>>,
    /// Can the pod run on a node?
    pub filter: Option<Arc<dyn Filter>>,
    /// What to do when no node is left.
    pub post_filter: Option<Arc<dyn PostFilter>>,
    /// Work done once per pod before nodes are scored.
    pub pre_score: Option<Arc<dyn PreScore>>,
    /// How well does the pod fit a node?
    pub score: Option<Arc<dyn Score>>,
    /// Keep, and give back, what a pod will use.
    pub reserve: Option<Arc<dyn Reserve>>,
    /// Approve, refuse or delay binding.
    pub permit: Option<Arc<dyn Permit>>,
    /// Work that must be done before binding.
    pub pre_bind: Option<Arc<dyn PreBind>>,
    /// Bind the pod.
    pub bind: Option<Arc<dyn Bind>>,
    /// Be told of a bound pod.
    pub post_bind: Option<Arc<dyn PostBind>>,
}

/// Extension point: before a pod enters the active queue.
pub trait PreEnqueue: Plugin {
    /// An error keeps the pod out until one of the plugin's events.
    fn pre_enqueue(&self, pod: &Pod) -> Verdict;
}

/// Extension point: the order of the active queue. Exactly one plugin of a profile extends it.
pub trait QueueSort: Plugin {
    /// `Less` schedules `a` first.
    fn compare(&self, a: &PodInfo, b: &PodInfo) -> Ordering;
}

/// What a PreFilter plugin found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreFilterResult {
    /// The plugin's Filter need not run for this pod.
    pub skip: bool,
    /// Only these nodes can do; None for all.
    pub nodes: Option<BTreeSet<String>>,
}

/// Extension point: once per pod before filtering.
pub trait PreFilter: Plugin {
    /// Computes what [`Filter`] needs into `state`, narrows the nodes or refuses the pod.
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
    ) -> Result<PreFilterResult, Status>;

    /// Adjusts `state` as if `other` were added to `node` (positive) or taken away: preemption asks what if.
    fn what_if(
        &self,
        _state: &mut CycleState,
        _pod: &PodInfo,
        _other: &PodInfo,
        _node: &NodeInfo,
        _added: bool,
    ) {
    }
}

/// Extension point: per node.
pub trait Filter: Plugin {
    /// An error keeps the pod off the node.
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Verdict;
}

/// What a PostFilter plugin achieved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PostFilterResult {
    /// The node for which room is being made, for `status.nominatedNodeName`.
    pub nominated_node: Option<String>,
    /// Added to the message of the unschedulable pod.
    pub message: String,
}

/// Extension point: when filtering left no node.
pub trait PostFilter: Plugin {
    /// Tries to make the pod schedulable, by preemption for instance.
    fn post_filter<'a>(
        &'a self,
        profile: &'a Profile,
        state: &'a CycleState,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
        diagnosis: &'a Diagnosis,
    ) -> BoxFuture<'a, PostFilterResult>;
}

/// Extension point: once per pod before scoring.
pub trait PreScore: Plugin {
    /// Computes what [`Score`] needs into `state`. `Ok(true)` skips the plugin's Score for this pod.
    fn pre_score(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &[Arc<NodeInfo>],
    ) -> Result<bool, Status>;
}

/// Extension point: per node that passed the filters.
pub trait Score: Plugin {
    /// Any number; [`Score::normalize`] brings it between 0 and [`MAX_NODE_SCORE`].
    fn score(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64;

    /// Brings the scores of all nodes into range.
    fn normalize(&self, _state: &CycleState, _pod: &PodInfo, _scores: &mut [i64]) {}
}

/// Extension point: a node was chosen.
pub trait Reserve: Plugin {
    /// Keeps what the pod will use on `node`.
    fn reserve(&self, state: &mut CycleState, pod: &PodInfo, node: &str) -> Verdict;
    /// Gives it back after a failure. Must not fail, and may be called without a reservation.
    fn unreserve(&self, state: &CycleState, pod: &PodInfo, node: &str);
}

/// A Permit plugin's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Bind now.
    Allow,
    /// Wait until [`crate::WaitingPods`] is told, at most this long.
    Wait(Duration),
}

/// Extension point: last word before the binding cycle.
pub trait Permit: Plugin {
    /// An error refuses the pod.
    fn permit(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Result<Permission, Status>;
}

/// Extension point: work before binding, such as attaching volumes.
pub trait PreBind: Plugin {
    /// An error ends the binding cycle.
    fn pre_bind<'a>(
        &'a self,
        state: &'a CycleState,
        pod: &'a PodInfo,
        node: &'a str,
    ) -> BoxFuture<'a, Verdict>;
}

/// Extension point: binding.
pub trait Bind: Plugin {
    /// Binds the pod; a status of [`Code::Skip`] leaves it to the next plugin.
    fn bind<'a>(&'a self, state: &'a CycleState, pod: &'a PodInfo, node: &'a str) -> BoxFuture<'a, Verdict>;
}

/// Extension point: after binding.
pub trait PostBind: Plugin {
    /// Is told; cannot fail.
    fn post_bind(&self, state: &CycleState, pod: &PodInfo, node: &str);
}

/// Scales scores to 0..=`max` by the highest one; `reverse` makes the lowest the best (upstream's DefaultNormalizeScore).
pub fn normalize_by_max(scores: &mut [i64], max: i64, reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if highest == 0 { 0 } else { max * *score / highest };
        *score = if reverse { max - scaled } else { scaled };
    }
}
