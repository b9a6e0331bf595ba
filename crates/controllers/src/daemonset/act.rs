//! Carrying out a DaemonSet's plan.

use std::sync::Arc;

use client::{EventType, ObjectKey};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;

use super::Controller;
use super::plan::{Observed, Plan};
use super::pod::{new_pod, template};
use crate::common::batch::slow_start;
use crate::common::history::{self, REVISION_LABEL};
use crate::common::{api, pods};

/// Most pods made or deleted at once (upstream's BurstReplicas).
const BURST_REPLICAS: usize = 250;
/// Revisions kept if the set does not say (the API's default).
const REVISION_HISTORY_LIMIT: i32 = 10;

impl Controller {
    pub(super) async fn act(
        &self,
        key: &ObjectKey,
        observed: &Observed<'_>,
        plan: Plan,
    ) -> Result<(), kube::Error> {
        for (is_warning, reason, message) in plan.events {
            let kind = if is_warning { EventType::Warning } else { EventType::Normal };
            self.events.event(observed.set, kind, reason, message);
        }
        let mut create = plan.create;
        let mut delete = plan.delete;
        create.truncate(BURST_REPLICAS);
        delete.truncate(BURST_REPLICAS);
        self.expectations.expect_creations(key, create.len());
        self.expectations.expect_deletions(key, delete.iter().map(|pod| pods::uid(pod).to_owned()));
        let made = self.create(key, observed, &create).await;
        let gone = self.delete(key, observed.set, &delete).await;
        made.and(gone)
    }

    async fn create(
        &self,
        key: &ObjectKey,
        observed: &Observed<'_>,
        nodes: &[String],
    ) -> Result<(), kube::Error> {
        let template = template(observed.set, observed.hash);
        let (_, untried, error) = slow_start(nodes.len(), |i| {
            let pod = new_pod(observed.set, &template, &nodes[i]);
            async move {
                match self.pod_control.create(observed.set, key.namespace_or_empty(), &pod).await {
                    Ok(_) => Ok(()),
                    Err(error) => {
                        self.expectations.creation_observed(key);
                        if api::is_namespace_terminating(&error) { Ok(()) } else { Err(error) }
                    }
                }
            }
        })
        .await;
        self.expectations.creations_observed(key, untried);
        error.map_or(Ok(()), Err)
    }

    async fn delete(
        &self,
        key: &ObjectKey,
        set: &DaemonSet,
        victims: &[Arc<Pod>],
    ) -> Result<(), kube::Error> {
        let deletions = victims.iter().map(|pod| async {
            let deleted = self.pod_control.delete(set, key.namespace_or_empty(), pods::name(pod)).await;
            if deleted.is_err() {
                self.expectations.deletion_observed(key, pods::uid(pod));
            }
            api::ignore_not_found(deleted)
        });
        join_all(deletions).await.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }

    pub(super) async fn write_status(
        &self,
        set: &DaemonSet,
        status: DaemonSetStatus,
    ) -> Result<(), kube::Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let key = ObjectKey::of(set);
        let sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
        let wanted = DaemonSet { status: Some(status), ..set.clone() };
        api::ignore_not_found(sets.replace_status(&key.name, &PostParams::default(), &wanted).await)?;
        Ok(())
    }

    /// Deletes the oldest revisions that no pod has.
    pub(super) async fn forget_history(
        &self,
        observed: &Observed<'_>,
        revisions: &[ControllerRevision],
        current: &ControllerRevision,
    ) -> Result<(), kube::Error> {
        let limit = observed
            .set
            .spec
            .as_ref()
            .and_then(|s| s.revision_history_limit)
            .unwrap_or(REVISION_HISTORY_LIMIT);
        let all = || observed.by_node.values().flatten().chain(&observed.nowhere);
        let in_use = |revision: &ControllerRevision| {
            let hash = history::hash_of(revision);
            revision.metadata.name == current.metadata.name
                || all().any(|pod| {
                    pod.metadata
                        .labels
                        .as_ref()
                        .and_then(|l| l.get(REVISION_LABEL))
                        .is_some_and(|h| h == hash)
                })
        };
        let namespace = observed.set.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), namespace);
        for revision in history::surplus(revisions, in_use, usize::try_from(limit).unwrap_or(0)) {
            let name = revision.metadata.name.as_deref().unwrap_or_default();
            api::ignore_not_found(api.delete(name, &api::delete_uid(revision.metadata.uid.as_ref())).await)?;
        }
        Ok(())
    }
}
