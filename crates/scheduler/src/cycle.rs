//! The scheduling cycle, one pod at a time, and the binding cycles, which run beside it.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::TaskScope;
use parking_lot::Mutex;

use crate::framework::{Code, CycleState, Diagnosis, Profile, ScoredNode, Status};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::queue::{Profiles, Queue, QueuedPod, scheduler_name};
use crate::report::{Failure, Reporter};
use crate::snapshot::{Cache, Snapshot};
use crate::waiting::WaitingPods;

/// In clusters smaller than this all nodes are looked at (upstream's minFeasibleNodesToFind).
const MIN_FEASIBLE: usize = 100;
/// The adaptive percentage: 50 minus one per 125 nodes, at least 5.
const PERCENT_START: usize = 50;
const PERCENT_STEP: usize = 125;
const PERCENT_MIN: usize = 5;

/// Takes pods from the queue and finds nodes for them.
pub struct Scheduler {
    /// 0 adapts to the size of the cluster.
    pub percentage_of_nodes_to_score: u32,
    /// By scheduler name.
    pub profiles: Profiles,
    /// Where pods come from.
    pub queue: Queue,
    /// Where nodes come from.
    pub cache: Arc<Mutex<Cache>>,
    /// Pods that wait for permission.
    pub waiting: WaitingPods,
    /// Tells the API what came of it.
    pub reporter: Reporter,
    /// Where the next search begins, so that all nodes get their turn.
    pub next_start: usize,
    /// Owner of the binding cycles.
    pub scope: TaskScope,
}

/// Why a cycle found no node.
enum Unfit {
    /// No node fits.
    Fit(Box<Diagnosis>),
    /// Something failed.
    Failed(Status),
}

impl Scheduler {
    /// Schedules until it is dropped.
    pub async fn run(mut self) {
        loop {
            let queued = self.queue.pop().await;
            let pod = &queued.info;
            // A pod that is being deleted, or has a node already, needs none.
            let moot = pod.pod.metadata.deletion_timestamp.is_some() || self.cache.lock().has_pod(pod.uid());
            match self.profiles.get(scheduler_name(&pod.pod)).cloned() {
                Some(profile) if !moot => self.schedule(&profile, queued).await,
                _ => self.queue.done(pod.uid()),
            }
        }
    }

    async fn schedule(&mut self, profile: &Arc<Profile>, mut queued: QueuedPod) {
        let snapshot = self.cache.lock().snapshot();
        let mut state = CycleState::default();
        let pod = queued.info.clone();
        let failure = match self.find_node(profile, &mut state, &pod, &snapshot) {
            Ok(node) => match self.reserve(profile, &mut state, &pod, &node) {
                Ok(waits) => return self.spawn_binding(profile.clone(), state, queued, node, waits),
                Err(status) => failure_of(status, &mut queued),
            },
            Err(Unfit::Failed(status)) => failure_of(status, &mut queued),
            Err(Unfit::Fit(mut diagnosis)) => {
                queued.refused_by = diagnosis.plugins();
                let made = profile.run_post_filter(&state, &pod, &snapshot, &diagnosis).await;
                diagnosis.post_filter_message = made.message;
                self.cache.lock().nominate(pod.clone(), made.nominated_node.as_deref());
                Failure::unschedulable(diagnosis.message(), made.nominated_node)
            }
        };
        self.reporter.failed(&pod, failure).await;
        self.queue.give_back(queued);
    }

    /// The best node, chosen at random among equals.
    fn find_node(
        &mut self,
        profile: &Profile,
        state: &mut CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
    ) -> Result<String, Unfit> {
        let mut diagnosis = Box::new(Diagnosis { all_nodes: snapshot.nodes().len(), ..Diagnosis::default() });
        if snapshot.nodes().is_empty() {
            return Err(Unfit::Fit(diagnosis));
        }
        let only = match profile.run_pre_filter(state, pod, snapshot) {
            Ok(only) => only,
            Err(status) if status.code == Code::Error => return Err(Unfit::Failed(status)),
            Err(status) => {
                diagnosis.pre_filter = Some(status);
                return Err(Unfit::Fit(diagnosis));
            }
        };
        let feasible = self.filter(profile, state, pod, snapshot, only.as_ref(), &mut diagnosis)?;
        match feasible.as_slice() {
            [] => Err(Unfit::Fit(diagnosis)),
            [one] => Ok(one.name().to_owned()),
            many => {
                let scored = profile.run_score(state, pod, many).map_err(Unfit::Failed)?;
                choose(&scored).ok_or(Unfit::Fit(diagnosis))
            }
        }
    }

    /// The nodes that pass the filters, as many as are to be scored.
    fn filter(
        &mut self,
        profile: &Profile,
        state: &CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
        only: Option<&BTreeSet<String>>,
        diagnosis: &mut Diagnosis,
    ) -> Result<Vec<Arc<NodeInfo>>, Unfit> {
        let nodes = snapshot.nodes();
        let enough = enough_feasible(nodes.len(), self.percentage_of_nodes_to_score);
        let start = self.next_start % nodes.len();
        let mut feasible = Vec::new();
        let mut looked_at = 0;
        for node in nodes[start..].iter().chain(&nodes[..start]) {
            looked_at += 1;
            if only.is_some_and(|names| !names.contains(node.name())) {
                // Upstream counts these nodes with the reason of the plugin that left them out.
                let reason = Status::unresolvable("node(s) didn't satisfy plugin(s) [NodeAffinity]")
                    .by("NodeAffinity");
                diagnosis.nodes.insert(node.name().to_owned(), reason);
                continue;
            }
            match profile.run_filter_with_nominated(state, pod, node, snapshot.nominated(node.name())) {
                Ok(()) => feasible.push(node.clone()),
                Err(status) if status.code == Code::Error => return Err(Unfit::Failed(status)),
                Err(status) => drop(diagnosis.nodes.insert(node.name().to_owned(), status)),
            }
            if feasible.len() >= enough {
                break;
            }
        }
        self.next_start = (start + looked_at) % nodes.len();
        Ok(feasible)
    }

    /// Assumes the pod on its node and asks Reserve and Permit.
    fn reserve(
        &self,
        profile: &Profile,
        state: &mut CycleState,
        pod: &Arc<PodInfo>,
        node: &str,
    ) -> Result<Vec<(&'static str, std::time::Duration)>, Status> {
        self.cache.lock().assume(pod.clone(), node);
        let permitted = profile.run_reserve(state, pod, node).and_then(|()| {
            profile.run_permit(state, pod, node).inspect_err(|_| profile.run_unreserve(state, pod, node))
        });
        permitted.inspect_err(|_| self.cache.lock().forget(pod.uid()))
    }

    /// Binds beside the next scheduling cycle.
    fn spawn_binding(
        &self,
        profile: Arc<Profile>,
        state: CycleState,
        mut queued: QueuedPod,
        node: String,
        waits: Vec<(&'static str, std::time::Duration)>,
    ) {
        let (cache, queue) = (self.cache.clone(), self.queue.clone());
        let (waiting, reporter) = (self.waiting.clone(), self.reporter.clone());
        self.scope.spawn(async move {
            let pod = queued.info.clone();
            let verdict = match waiting.wait(pod.uid(), waits).await {
                Ok(()) => profile.run_bind(&state, &pod, &node).await,
                Err(status) => Err(status),
            };
            match verdict {
                Ok(()) => {
                    queue.done(pod.uid());
                    reporter.scheduled(&pod, &node);
                }
                Err(status) => {
                    profile.run_unreserve(&state, &pod, &node);
                    cache.lock().forget(pod.uid());
                    let failure = failure_of(status, &mut queued);
                    reporter.failed(&pod, failure).await;
                    queue.give_back(queued);
                }
            }
        });
    }
}

fn failure_of(status: Status, queued: &mut QueuedPod) -> Failure {
    match status.code {
        Code::Error => {
            // Nobody's event tells when the failure is over: only back-off helps.
            queued.refused_by.clear();
            Failure::error(format!("running {} plugin: {}", status.plugin, status.message()))
        }
        _ => {
            queued.refused_by = vec![status.plugin];
            Failure::unschedulable(status.message(), None)
        }
    }
}

/// One of the best, each with the same chance.
fn choose(scored: &[ScoredNode]) -> Option<String> {
    let best = scored.iter().map(|node| node.total).max()?;
    let equals: Vec<&ScoredNode> = scored.iter().filter(|node| node.total == best).collect();
    Some(equals[fastrand::usize(..equals.len())].name.clone())
}

/// How many feasible nodes are enough to score (upstream's numFeasibleNodesToFind).
fn enough_feasible(all: usize, percentage: u32) -> usize {
    if all < MIN_FEASIBLE {
        return all;
    }
    let percent = match percentage {
        0 => PERCENT_START.saturating_sub(all / PERCENT_STEP).max(PERCENT_MIN),
        set => set as usize,
    };
    (all * percent.min(100) / 100).max(MIN_FEASIBLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_clusters_are_searched_in_part() {
        for (all, percentage, expected) in [
            (10, 0, 10),
            (100, 0, 100),
            (1000, 0, 420),
            (6000, 0, 300),
            (5000, 0, 500),
            (1000, 70, 700),
            (200, 1, 100),
        ] {
            assert_eq!(enough_feasible(all, percentage), expected, "{all} nodes, {percentage}%");
        }
    }

    #[test]
    fn ties_are_broken_at_random() {
        let node = |name: &str, total| ScoredNode { name: name.to_owned(), total };
        let scored = [node("a", 3), node("b", 9), node("c", 9), node("d", 1)];
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            seen.insert(choose(&scored).unwrap());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["b", "c"]);
    }
}
