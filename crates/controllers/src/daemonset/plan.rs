//! Which nodes lack a daemon pod, and which pods have to go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use k8s_openapi::jiff::Timestamp;

use super::pod::{is_updated, should_run, target_node, template};
use crate::common::numbers::{NotAPercentage, Round, scaled};
use crate::common::{pods, time};

/// A DaemonSet with its pods and all nodes.
pub struct Observed<'a> {
    /// The set.
    pub set: &'a DaemonSet,
    /// Its pods by node.
    pub by_node: BTreeMap<String, Vec<Arc<Pod>>>,
    /// Pods that are for no node.
    pub nowhere: Vec<Arc<Pod>>,
    /// All nodes, with whether a pod is to be made on each, and whether one may stay.
    pub nodes: BTreeMap<String, (bool, bool)>,
    /// The hash of the current template.
    pub hash: &'a str,
    /// The wall clock.
    pub now: Timestamp,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Nodes to make a pod for.
    pub create: Vec<String>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// What to say of ended pods: warning or not, reason, message.
    pub events: Vec<(bool, &'static str, String)>,
    /// When to look again though nothing changes.
    pub requeue: Option<Duration>,
}

impl<'a> Observed<'a> {
    /// Sorts pods by node.
    pub fn new(
        set: &'a DaemonSet,
        pods: Vec<Arc<Pod>>,
        nodes: &[Arc<Node>],
        hash: &'a str,
        now: Timestamp,
    ) -> Self {
        let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        let mut nowhere = Vec::new();
        for pod in pods {
            match target_node(&pod) {
                Some(node) => by_node.entry(node.to_owned()).or_default().push(pod),
                None => nowhere.push(pod),
            }
        }
        for pods in by_node.values_mut() {
            pods.sort_by_key(|pod| oldest_first(pod));
        }
        let spec = template(set, hash).spec.unwrap_or_default();
        let judged =
            |node: &Arc<Node>| (node.metadata.name.clone().unwrap_or_default(), should_run(&spec, node));
        Self { set, by_node, nowhere, nodes: nodes.iter().map(judged).collect(), hash, now }
    }

    fn spec(&self) -> DaemonSetSpec {
        self.set.spec.clone().unwrap_or_default()
    }

    fn min_ready_seconds(&self) -> i32 {
        self.set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pods::is_available(pod, self.min_ready_seconds(), self.now)
    }

    fn is_new(&self, pod: &Pod) -> bool {
        is_updated(self.set, pod, self.hash)
    }

    fn desired(&self) -> i32 {
        self.nodes.values().filter(|(run, _)| *run).count() as i32
    }

    /// maxSurge and maxUnavailable, in pods.
    fn pace(&self) -> Result<(i32, i32), NotAPercentage> {
        let rolling = self.spec().update_strategy.and_then(|s| s.rolling_update).unwrap_or_default();
        let number = |value: Option<&_>| value.map_or(Ok(0), |v| scaled(v, self.desired(), Round::Up));
        let (surge, unavailable) =
            (number(rolling.max_surge.as_ref())?, number(rolling.max_unavailable.as_ref())?);
        Ok((surge, if surge == 0 && unavailable == 0 { 1 } else { unavailable }))
    }

    fn is_rolling(&self) -> bool {
        let strategy = self.set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
        strategy.is_none_or(|s| s.type_.as_deref() != Some("OnDelete"))
    }
}

/// Bound ones first, then by age and name.
fn oldest_first(pod: &Pod) -> (bool, Option<Timestamp>, String) {
    let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    (pods::node_name(pod).is_none(), created, pods::name(pod).to_owned())
}

/// True if the spec's pods need no more than a node; used to find sets that a changed node concerns.
pub fn concerns(spec: &PodSpec, old: &Node, new: &Node) -> bool {
    should_run(spec, old) != should_run(spec, new)
}

/// What has to be done. `wait` says how long a pod that has failed on a node must not be replaced yet, if so.
pub fn plan(
    observed: &Observed<'_>,
    mut wait: impl FnMut(&str) -> Option<Duration>,
) -> Result<Plan, NotAPercentage> {
    let mut plan = Plan::default();
    let (surge, unavailable) = observed.pace()?;
    let surges = observed.is_rolling() && surge > 0;
    for (node, (run, stay)) in &observed.nodes {
        let pods = observed.by_node.get(node).map(Vec::as_slice).unwrap_or_default();
        if *run && pods.is_empty() {
            plan.create.push(node.clone());
        } else if *stay {
            tidy_node(observed, node, pods, surges, &mut wait, &mut plan);
        } else {
            plan.delete.extend(pods.iter().filter(|p| p.metadata.deletion_timestamp.is_none()).cloned());
        }
    }
    // Pods that wait for a node which is gone will never be bound.
    let gone = observed.by_node.iter().filter(|(node, _)| !observed.nodes.contains_key(*node));
    let unbound = gone.flat_map(|(_, pods)| pods).filter(|pod| pods::node_name(pod).is_none());
    plan.delete.extend(unbound.filter(|pod| pod.metadata.deletion_timestamp.is_none()).cloned());
    if observed.is_rolling() && plan.create.is_empty() && plan.delete.is_empty() {
        if surges {
            roll_with_surge(observed, surge, &mut plan)
        } else {
            roll(observed, unavailable, &mut plan)
        }
    }
    let all = observed.by_node.values().flatten();
    let next = pods::next_available(all, observed.min_ready_seconds(), observed.now);
    plan.requeue = time::earlier(plan.requeue, next.map(|at| time::until(observed.now, at)));
    Ok(plan)
}

/// Removes ended pods and doubles from a node.
fn tidy_node(
    observed: &Observed<'_>,
    node: &str,
    pods: &[Arc<Pod>],
    surges: bool,
    wait: &mut impl FnMut(&str) -> Option<Duration>,
    plan: &mut Plan,
) {
    let mut running: Vec<&Arc<Pod>> = Vec::new();
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let what = format!(
            "{}/{} on node {node}",
            pod.metadata.namespace.as_deref().unwrap_or_default(),
            pods::name(pod)
        );
        match pods::phase(pod) {
            "Failed" => {
                if let Some(left) = wait(node) {
                    plan.requeue = time::earlier(plan.requeue, Some(left));
                    continue;
                }
                let text = format!("Found failed daemon pod {what}, will try to kill it");
                plan.events.push((true, "FailedDaemonPod", text));
                plan.delete.push(pod.clone());
            }
            "Succeeded" => {
                let text = format!("Found succeeded daemon pod {what}, will try to delete it");
                plan.events.push((false, "SucceededDaemonPod", text));
                plan.delete.push(pod.clone());
            }
            _ => running.push(pod),
        }
    }
    if running.len() <= 1 {
        return;
    }
    if !surges {
        plan.delete.extend(running.into_iter().skip(1).cloned());
        return;
    }
    let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| observed.is_new(pod));
    plan.delete.extend(new.iter().chain(&[]).skip(1).chain(old.iter().skip(1)).map(|p| Arc::clone(p)));
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && (!pods::is_ready(old) || observed.is_available(new))
    {
        plan.delete.push(Arc::clone(old));
    }
}

/// The one new and the one old pod of a node that run; None if there are several of a sort.
fn pair<'p>(
    observed: &Observed<'_>,
    pods: &'p [Arc<Pod>],
) -> Option<(Option<&'p Arc<Pod>>, Option<&'p Arc<Pod>>)> {
    let live = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let (new, old): (Vec<_>, Vec<_>) = live.partition(|pod| observed.is_new(pod));
    (new.len() <= 1 && old.len() <= 1).then(|| (new.first().copied(), old.first().copied()))
}

/// Deletes old pods within maxUnavailable; their nodes get new ones afterwards.
fn roll(observed: &Observed<'_>, max_unavailable: i32, plan: &mut Plan) {
    let mut unavailable = 0;
    let (mut broken, mut candidates) = (Vec::new(), Vec::new());
    for pods in observed.by_node.values() {
        match pair(observed, pods) {
            Some((None, Some(old))) => {
                if observed.is_available(old) {
                    candidates.push(old.clone());
                } else {
                    unavailable += 1;
                    broken.push(old.clone());
                }
            }
            Some((Some(new), None)) => unavailable += i32::from(!observed.is_available(new)),
            _ => unavailable += 1,
        }
    }
    let room = usize::try_from(max_unavailable - unavailable).unwrap_or(0);
    plan.delete.extend(broken);
    plan.delete.extend(candidates.into_iter().take(room));
}

/// Makes new pods beside old ones within maxSurge, and deletes the old ones when the new are available.
fn roll_with_surge(observed: &Observed<'_>, max_surge: i32, plan: &mut Plan) {
    let mut surging = 0;
    let (mut broken, mut candidates) = (Vec::new(), Vec::new());
    for (node, pods) in &observed.by_node {
        match pair(observed, pods) {
            None => surging += 1,
            Some((_, None)) => {}
            Some((None, Some(old))) => {
                if !observed.nodes.get(node).is_some_and(|(run, _)| *run) {
                    continue;
                }
                if observed.is_available(old) {
                    candidates.push(node.clone())
                } else {
                    broken.push(node.clone())
                }
            }
            Some((Some(new), Some(old))) => {
                if observed.is_available(new) {
                    plan.delete.push(old.clone());
                } else {
                    surging += 1;
                }
            }
        }
    }
    let room = usize::try_from(max_surge - surging).unwrap_or(0);
    plan.create.extend(broken);
    plan.create.extend(candidates.into_iter().take(room));
}

/// The status that nodes and pods amount to.
pub fn status(observed: &Observed<'_>, collision_count: Option<i32>) -> DaemonSetStatus {
    let before = observed.set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        desired_number_scheduled: observed.desired(),
        collision_count,
        conditions: before.conditions,
        observed_generation: observed.set.metadata.generation,
        ..DaemonSetStatus::default()
    };
    let (mut available, mut updated) = (0, 0);
    for (node, (run, _)) in &observed.nodes {
        let Some(pod) = observed.by_node.get(node).and_then(|pods| pods.first()) else { continue };
        if !run {
            status.number_misscheduled += 1;
            continue;
        }
        status.current_number_scheduled += 1;
        status.number_ready += i32::from(pods::is_ready(pod));
        available += i32::from(observed.is_available(pod));
        updated += i32::from(observed.is_new(pod));
    }
    let some = |count: i32| (count != 0).then_some(count);
    status.number_available = some(available);
    status.updated_number_scheduled = some(updated);
    status.number_unavailable = some(status.desired_number_scheduled - available);
    status
}
