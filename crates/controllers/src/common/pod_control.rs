//! Making and deleting the pods of a set, with the events that tell of it.

use std::sync::Arc;

use client::{EventRecorder, EventType, Kind, ObjectKey};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use super::batch::slow_start;
use super::expectations::Expectations;
use super::{api, pods};

/// Longest prefix that still leaves room for the five letters of a generated name.
const MAX_PREFIX_LEN: usize = 253;

/// The pod that a template of `owner` describes; the API server completes its name.
pub fn pod_of(owner_name: &str, owner: OwnerReference, template: &PodTemplateSpec) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    let mut prefix = format!("{owner_name}-");
    prefix.truncate(MAX_PREFIX_LEN);
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(prefix),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Writes pods for one controller.
#[derive(Clone)]
pub struct PodControl {
    client: kube::Client,
    events: EventRecorder,
}

impl PodControl {
    /// Writes with `client`, tells with `events`.
    pub fn new(client: kube::Client, events: EventRecorder) -> Self {
        Self { client, events }
    }

    /// Makes `pod` and tells so on `owner`.
    pub async fn create(&self, owner: &impl Kind, namespace: &str, pod: &Pod) -> Result<Pod, kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match pods.create(&PostParams::default(), pod).await {
            Ok(created) => {
                let name = created.metadata.name.as_deref().unwrap_or_default();
                self.events.event(
                    owner,
                    EventType::Normal,
                    "SuccessfulCreate",
                    format!("Created pod: {name}"),
                );
                Ok(created)
            }
            Err(error) => {
                if !api::is_namespace_terminating(&error) {
                    let text = format!("Error creating: {}", api::message(&error));
                    self.events.event(owner, EventType::Warning, "FailedCreate", text);
                }
                Err(error)
            }
        }
    }

    /// Makes `count` pods in a slow start; all of them are expected for `key` already, and those that are not made
    /// no more afterwards. Gives how many were made, and the first error.
    pub async fn create_expected(
        &self,
        owner: &impl Kind,
        key: &ObjectKey,
        expectations: &Expectations,
        count: usize,
        pod: impl Fn(usize) -> Pod,
    ) -> (usize, Option<kube::Error>) {
        let (made, untried, error) = slow_start(count, |i| {
            let pod = pod(i);
            async move {
                let Err(error) = self.create(owner, key.namespace_or_empty(), &pod).await else {
                    return Ok(());
                };
                expectations.creation_observed(key);
                if api::is_namespace_terminating(&error) { Ok(()) } else { Err(error) }
            }
        })
        .await;
        expectations.creations_observed(key, untried);
        (made, error)
    }

    /// Deletes pods whose end is expected for `key` already; that of those which cannot be deleted is so no more.
    /// Gives the outcomes in the order of `victims`; one that is gone already is a success.
    pub async fn delete_expected(
        &self,
        owner: &impl Kind,
        key: &ObjectKey,
        expectations: &Expectations,
        victims: &[Arc<Pod>],
    ) -> Vec<Result<(), kube::Error>> {
        let deletions = victims.iter().map(|pod| async {
            let deleted = self.delete(owner, key.namespace_or_empty(), pods::name(pod)).await;
            if deleted.is_err() {
                expectations.deletion_observed(key, pods::uid(pod));
            }
            api::ignore_not_found(deleted).map(drop)
        });
        join_all(deletions).await
    }

    /// Deletes a pod and tells so on `owner`. One that is gone already is an error `NotFound`.
    pub async fn delete(&self, owner: &impl Kind, namespace: &str, name: &str) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match pods.delete(name, &DeleteParams::default()).await {
            Ok(_) => {
                self.events.event(
                    owner,
                    EventType::Normal,
                    "SuccessfulDelete",
                    format!("Deleted pod: {name}"),
                );
                Ok(())
            }
            Err(error) => {
                if !api::is_not_found(&error) {
                    let text = format!("Error deleting: {}", api::message(&error));
                    self.events.event(owner, EventType::Warning, "FailedDelete", text);
                }
                Err(error)
            }
        }
    }
}
