//! Carrying out a StatefulSet's plan.

use std::sync::Arc;

use client::{EventType, ObjectKey};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::PostParams;

use super::plan::Action;
use super::{Controller, REVISION_HISTORY_LIMIT};
use crate::common::history::REVISION_LABEL;
use crate::common::{api, pods};

impl Controller {
    pub(super) async fn act(&self, set: &StatefulSet, actions: Vec<Action>) -> Result<(), kube::Error> {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let api_of_pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        for action in actions {
            match action {
                Action::Create(pod, missing) => {
                    self.create_claims(set, &pod, &claims, missing).await?;
                    self.create(set, &api_of_pods, &pod).await?;
                }
                Action::CreateClaims(pod, missing) => self.create_claims(set, &pod, &claims, missing).await?,
                Action::Delete(pod, said) => self.delete(set, &api_of_pods, &pod, said).await?,
                Action::Update(pod) => {
                    let result = api_of_pods.replace(pods::name(&pod), &PostParams::default(), &pod).await;
                    self.tell(set, "update", "Update", pods::name(&pod), &result);
                    result?;
                }
                Action::UpdateClaim(claim) => {
                    let name = claim.metadata.name.clone().unwrap_or_default();
                    claims.replace(&name, &PostParams::default(), &claim).await?;
                }
            }
        }
        Ok(())
    }

    async fn create(&self, set: &StatefulSet, api: &Api<Pod>, pod: &Pod) -> Result<(), kube::Error> {
        let result = api.create(&PostParams::default(), pod).await;
        match &result {
            // Our cache is behind, or a pod that is not ours has the name; either is seen by the event it makes.
            Err(error) if api::is_already_exists(error) => {}
            Err(error) if api::is_namespace_terminating(error) => return Ok(()),
            _ => self.tell(set, "create", "Create", pods::name(pod), &result),
        }
        result.map(drop)
    }

    async fn create_claims(
        &self,
        set: &StatefulSet,
        pod: &Pod,
        api: &Api<PersistentVolumeClaim>,
        missing: Vec<PersistentVolumeClaim>,
    ) -> Result<(), kube::Error> {
        for claim in missing {
            let name = claim.metadata.name.clone().unwrap_or_default();
            let result = api.create(&PostParams::default(), &claim).await;
            if matches!(&result, Err(error) if api::is_already_exists(error)) {
                continue;
            }
            let what = format!("Claim {name} Pod {} in StatefulSet {}", pods::name(pod), name_of(set));
            match &result {
                Ok(_) => {
                    let text = format!("create {what} success");
                    self.events.event(set, EventType::Normal, "SuccessfulCreate", text);
                }
                Err(error) => {
                    let text = format!("create {what} failed error: {}", api::message(error));
                    self.events.event(set, EventType::Warning, "FailedCreate", text);
                }
            }
            result?;
        }
        Ok(())
    }

    async fn delete(
        &self,
        set: &StatefulSet,
        api: &Api<Pod>,
        pod: &Arc<Pod>,
        said: Option<(&'static str, &'static str)>,
    ) -> Result<(), kube::Error> {
        let name = pods::name(pod);
        if let Some((reason, state)) = said {
            let key = ObjectKey::of(set);
            let text = format!("StatefulSet {key} is recreating {state} Pod {name}");
            self.events.event(set, EventType::Warning, reason, text);
        }
        let result = api.delete(name, &api::delete_uid(pod.metadata.uid.as_ref())).await;
        if matches!(&result, Err(error) if api::is_not_found(error)) {
            return Ok(());
        }
        self.tell(set, "delete", "Delete", name, &result);
        result.map(drop)
    }

    fn tell<T>(&self, set: &StatefulSet, verb: &str, word: &str, pod: &str, result: &Result<T, kube::Error>) {
        match result {
            Ok(_) => {
                let text = format!("{verb} Pod {pod} in StatefulSet {} successful", name_of(set));
                self.events.event(set, EventType::Normal, &format!("Successful{word}"), text);
            }
            Err(error) => {
                let message = api::message(error);
                let text =
                    format!("{verb} Pod {pod} in StatefulSet {} failed error: {message}", name_of(set));
                self.events.event(set, EventType::Warning, &format!("Failed{word}"), text);
            }
        }
    }

    pub(super) async fn write_status(
        &self,
        set: &StatefulSet,
        status: StatefulSetStatus,
    ) -> Result<(), kube::Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let key = ObjectKey::of(set);
        let sets: Api<StatefulSet> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
        let wanted = StatefulSet { status: Some(status), ..set.clone() };
        api::ignore_not_found(sets.replace_status(&key.name, &PostParams::default(), &wanted).await)?;
        Ok(())
    }

    /// Deletes the oldest revisions that no pod has.
    pub(super) async fn forget_history(
        &self,
        set: &StatefulSet,
        revisions: &[ControllerRevision],
        pods: &[Arc<Pod>],
        kept: [&ControllerRevision; 2],
    ) -> Result<(), kube::Error> {
        let limit =
            set.spec.as_ref().and_then(|s| s.revision_history_limit).unwrap_or(REVISION_HISTORY_LIMIT);
        let in_use = |revision: &ControllerRevision| {
            let name = revision.metadata.name.as_ref();
            kept.iter().any(|k| k.metadata.name.as_ref() == name)
                || pods
                    .iter()
                    .any(|pod| pod.metadata.labels.as_ref().and_then(|l| l.get(REVISION_LABEL)) == name)
        };
        let api: Api<ControllerRevision> =
            Api::namespaced(self.client.clone(), set.metadata.namespace.as_deref().unwrap_or_default());
        for revision in
            crate::common::history::surplus(revisions, in_use, usize::try_from(limit).unwrap_or(0))
        {
            let name = revision.metadata.name.as_deref().unwrap_or_default();
            api::ignore_not_found(api.delete(name, &api::delete_uid(revision.metadata.uid.as_ref())).await)?;
        }
        Ok(())
    }
}

fn name_of(set: &StatefulSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}
