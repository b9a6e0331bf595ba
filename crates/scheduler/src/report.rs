//! What users see of scheduling: the pod's condition and events.

use client::{EventRecorder, EventType};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::pod_info::PodInfo;

/// Why a pod was not scheduled, as its condition says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    reason: &'static str,
    message: String,
    nominated_node: Option<String>,
}

impl Failure {
    /// No node fits.
    pub fn unschedulable(message: String, nominated_node: Option<String>) -> Self {
        Self { reason: "Unschedulable", message, nominated_node }
    }

    /// Something failed.
    pub fn error(message: String) -> Self {
        Self { reason: "SchedulerError", message, nominated_node: None }
    }
}

/// Writes conditions and events.
#[derive(Clone)]
pub struct Reporter {
    client: kube::Client,
    recorder: EventRecorder,
}

impl Reporter {
    /// Writes with `client` and `recorder`.
    pub fn new(client: kube::Client, recorder: EventRecorder) -> Self {
        Self { client, recorder }
    }

    /// The pod is bound.
    pub fn scheduled(&self, pod: &PodInfo, node: &str) {
        let message = format!("Successfully assigned {}/{} to {node}", pod.namespace(), pod.name());
        self.recorder.event(pod.pod.as_ref(), EventType::Normal, "Scheduled", message);
    }

    /// The pod was not scheduled.
    pub async fn failed(&self, pod: &PodInfo, failure: Failure) {
        let message = failure.message.clone();
        self.recorder.event(pod.pod.as_ref(), EventType::Warning, "FailedScheduling", message);
        if says_so_already(&pod.pod, &failure) {
            return;
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), pod.namespace());
        let patch = Patch::Strategic(condition_patch(pod, &failure));
        if let Err(error) = api.patch_status(pod.name(), &PatchParams::default(), &patch).await {
            tracing::debug!(pod = pod.name(), %error, "condition not written");
        }
    }
}

fn says_so_already(pod: &Pod, failure: &Failure) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let nominated = status.and_then(|s| s.nominated_node_name.as_deref()).filter(|name| !name.is_empty());
    let same = |message: &Option<String>| message.as_deref() == Some(&failure.message);
    nominated == failure.nominated_node.as_deref()
        && conditions.iter().any(|c| {
            c.type_ == "PodScheduled"
                && c.status == "False"
                && c.reason.as_deref() == Some(failure.reason)
                && same(&c.message)
        })
}

fn condition_patch(pod: &PodInfo, failure: &Failure) -> serde_json::Value {
    let conditions = pod.pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let old = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    let since = old.and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0).unwrap_or_else(now);
    let mut status = json!({"conditions": [{
        "type": "PodScheduled",
        "status": "False",
        "reason": failure.reason,
        "message": failure.message,
        "lastProbeTime": null,
        "lastTransitionTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(since),
        "observedGeneration": pod.pod.metadata.generation,
    }]});
    // What is not so any more would keep others off the node.
    status["nominatedNodeName"] = json!(failure.nominated_node);
    json!({"metadata": {"uid": pod.uid()}, "status": status})
}

fn now() -> k8s_openapi::jiff::Timestamp {
    k8s_openapi::jiff::Timestamp::now()
}
