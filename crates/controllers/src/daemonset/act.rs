//! Carrying out a DaemonSet's plan.

use client::{EventType, ObjectKey};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use kube::Api;
use kube::api::PostParams;

use super::Controller;
use super::plan::{Observed, Plan};
use super::pod::{new_pod, template};
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
        let (set, expectations) = (observed.set, &*self.expectations);
        let template = template(set, observed.hash);
        let pod = |i: usize| new_pod(set, &template, &create[i]);
        let (_, error) = self.pod_control.create_expected(set, key, expectations, create.len(), pod).await;
        let gone = self.pod_control.delete_expected(set, key, expectations, &delete).await;
        error.map_or(Ok(()), Err).and(gone.into_iter().collect())
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
