//! DefaultPreemption: pods of lower priority make room for one that finds no node.

mod choose;
#[cfg(test)]
mod tests;
mod victims;

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{EventRecorder, EventType};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use crate::framework::{
    Code, CycleState, Diagnosis, Plugin, Points, PostFilter, PostFilterResult, Profile, Status,
};
use crate::lister::Lister;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;
use choose::best;
use victims::{Victims, select};

/// At least so many candidates are looked for, in larger clusters a tenth of the nodes (upstream's
/// `minCandidateNodesAbsolute` and `minCandidateNodesPercentage`).
const MIN_CANDIDATES: usize = 100;
const CANDIDATE_SHARE: usize = 10;
const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

/// Evicts pods for others.
pub struct DefaultPreemption {
    client: kube::Client,
    recorder: Option<EventRecorder>,
    lister: Arc<dyn Lister>,
}

impl DefaultPreemption {
    /// Deletes with `client`, tells with `recorder` and spares what budgets of `lister` protect.
    pub fn new(client: kube::Client, recorder: Option<EventRecorder>, lister: Arc<dyn Lister>) -> Self {
        Self { client, recorder, lister }
    }

    async fn preempt(
        &self,
        profile: &Profile,
        state: &CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
        diagnosis: &Diagnosis,
    ) -> PostFilterResult {
        let failed =
            |text: String| PostFilterResult { nominated_node: None, message: format!("preemption: {text}") };
        if let Some(reason) = not_eligible(pod, snapshot) {
            return failed(reason.to_owned());
        }
        let (candidates, refusals) = self.dry_run(profile, state, pod, snapshot, diagnosis);
        let Some(candidate) = best(candidates) else {
            let diagnosis =
                Diagnosis { nodes: refusals, all_nodes: snapshot.nodes().len(), ..Diagnosis::default() };
            return failed(diagnosis.message());
        };
        match self.evict(pod, &candidate).await {
            Ok(()) => {
                PostFilterResult { nominated_node: Some(candidate.node.clone()), message: String::new() }
            }
            Err(error) => failed(format!("cannot evict from {}: {error}", candidate.node)),
        }
    }

    /// Who would have to go on each node; and why not, where nobody's going would help.
    fn dry_run(
        &self,
        profile: &Profile,
        state: &CycleState,
        pod: &PodInfo,
        snapshot: &Snapshot,
        diagnosis: &Diagnosis,
    ) -> (Vec<Victims>, BTreeMap<String, Status>) {
        let enough = MIN_CANDIDATES.max(snapshot.nodes().len() / CANDIDATE_SHARE);
        let (mut candidates, mut refusals) = (Vec::new(), BTreeMap::new());
        for node in snapshot.nodes() {
            let refused = diagnosis.nodes.get(node.name()).or(diagnosis.pre_filter.as_ref());
            let result = match refused {
                Some(status) if status.code == Code::Unschedulable && candidates.len() < enough => {
                    select(profile, state, pod, node, snapshot, self.lister.as_ref())
                }
                _ => Err(Status::unresolvable(NOT_HELPFUL)),
            };
            match result {
                Ok(victims) => candidates.push(victims),
                Err(status) => drop(refusals.insert(node.name().to_owned(), status)),
            }
        }
        (candidates, refusals)
    }

    async fn evict(&self, pod: &PodInfo, candidate: &Victims) -> Result<(), kube::Error> {
        for victim in candidate.pods.iter().filter(|v| v.pod.metadata.deletion_timestamp.is_none()) {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), victim.namespace());
            let now =
                k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::now());
            let condition = json!({"metadata": {"uid": victim.uid()}, "status": {"conditions": [{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": format!("{}: preempting to accommodate a higher priority pod", scheduler(pod)),
                "lastTransitionTime": now,
                "observedGeneration": victim.pod.metadata.generation,
            }]}});
            let told =
                api.patch_status(victim.name(), &PatchParams::default(), &Patch::Strategic(condition)).await;
            if is_gone(&told) {
                continue;
            }
            told?;
            let only = Preconditions { uid: Some(victim.uid().to_owned()), resource_version: None };
            let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
            let deleted = api.delete(victim.name(), &params).await;
            if is_gone(&deleted) {
                continue;
            }
            deleted?;
            if let Some(recorder) = &self.recorder {
                let message = format!("Preempted by pod {} on node {}", pod.uid(), candidate.node);
                recorder.event(victim.pod.as_ref(), EventType::Normal, "Preempted", message);
            }
        }
        Ok(())
    }
}

fn scheduler(pod: &PodInfo) -> &str {
    crate::queue::scheduler_name(&pod.pod)
}

fn is_gone<T>(result: &Result<T, kube::Error>) -> bool {
    matches!(result, Err(kube::Error::Api(status)) if status.code == 404)
}

/// Why a pod may not preempt others; None if it may.
fn not_eligible(pod: &PodInfo, snapshot: &Snapshot) -> Option<&'static str> {
    if pod.spec().and_then(|s| s.preemption_policy.as_deref()) == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let nominated = pod.pod.status.as_ref().and_then(|s| s.nominated_node_name.as_deref())?;
    let leaving = |other: &Arc<PodInfo>| {
        other.pod.metadata.deletion_timestamp.is_some() && other.priority() < pod.priority()
    };
    let waits = snapshot.get(nominated).is_some_and(|node| node.pods.iter().any(leaving));
    waits.then_some("not eligible due to a terminating pod on the nominated node.")
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }

    fn points(self: Arc<Self>) -> Points {
        Points { post_filter: Some(self), ..Points::default() }
    }
}

impl PostFilter for DefaultPreemption {
    fn post_filter<'a>(
        &'a self,
        profile: &'a Profile,
        state: &'a CycleState,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
        diagnosis: &'a Diagnosis,
    ) -> BoxFuture<'a, PostFilterResult> {
        self.preempt(profile, state, pod, snapshot, diagnosis).boxed()
    }
}
