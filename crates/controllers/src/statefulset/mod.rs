//! StatefulSets: pods with a name, an order and claims of their own (upstream's statefulset controller).

mod act;
mod identity;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::{Cache, EventRecorder, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::Timestamp;

use self::plan::{Observed, Revision, plan};
use crate::Error;
use crate::common::history::{self, NewRevision};
use crate::common::selector::Matcher;
use crate::common::watching::{Owners, watch_keys, watch_owned};
use crate::common::{api, owner, pods, time};
use crate::context::Context;

/// Revisions kept if the set does not say (the API's default).
const REVISION_HISTORY_LIMIT: i32 = 10;

struct Controller {
    client: kube::Client,
    events: EventRecorder,
    sets: Cache<StatefulSet>,
    pods: Cache<Pod>,
    claims: Cache<PersistentVolumeClaim>,
    revisions: Cache<ControllerRevision>,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let sets = context.informers.get::<StatefulSet>();
    let pods = context.informers.get::<Pod>();
    let claims = context.informers.get::<PersistentVolumeClaim>();
    let revisions = context.informers.get::<ControllerRevision>();
    let queue = WorkQueue::new("statefulset");
    watch_keys(&sets, &queue);
    let owners = || Owners {
        cache: sets.cache(),
        queue: queue.clone(),
        expectations: None,
        selector: |set: &StatefulSet| selector_of(set),
    };
    watch_owned(&pods, owners());
    watch_owned(&revisions, owners());
    sets.synced().await;
    pods.synced().await;
    claims.synced().await;
    revisions.synced().await;
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        events: context.events.clone(),
        sets: sets.cache(),
        pods: pods.cache(),
        claims: claims.cache(),
        revisions: revisions.cache(),
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

fn selector_of(set: &StatefulSet) -> Matcher {
    set.spec.as_ref().and_then(|s| Matcher::new(&s.selector).ok()).unwrap_or_else(Matcher::nothing)
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(set) = self.sets.get_key(key) else { return Ok(Outcome::Done) };
        let selector = selector_of(&set);
        let found = owner::candidates(&self.revisions, &set.metadata);
        let claims = owner::claim(&set.metadata, found, |r: &ControllerRevision| {
            selector.matches(r.metadata.labels.as_ref())
        });
        let revisions: Vec<ControllerRevision> = owner::settle(&self.client, set.as_ref(), claims, None)
            .await?
            .iter()
            .map(|r| ControllerRevision::clone(r))
            .collect();
        let mut found = owner::candidates(&self.pods, &set.metadata);
        found.retain(|pod| identity::parse(pods::name(pod)).is_some_and(|(name, _)| name == key.name));
        let claims =
            owner::claim(&set.metadata, found, |pod: &Pod| selector.matches(pod.metadata.labels.as_ref()));
        let pods = owner::settle(&self.client, set.as_ref(), claims, None).await?;
        let (current, update, collisions) = self.revisions_of(&set, &revisions).await?;
        let observed = Observed {
            set: &set,
            pods: &pods,
            current: revision(&set, &current),
            update: revision(&set, &update),
            collision_count: collisions,
            claim: &|name| self.claims.get(key.namespace.as_deref(), name),
            now: time::now(),
        };
        let plan = plan(&observed)?;
        let failure = self.act(&set, plan.actions).await.err();
        if let Some(error) = failure {
            // What the status says is true only of a step that succeeded; the next one will say it.
            return Err(error.into());
        }
        self.write_status(&set, plan.status).await?;
        self.forget_history(&set, &revisions, &pods, [&current, &update]).await?;
        Ok(next_check(&set, &pods))
    }

    /// The current and the update revision, the latter made if it is new, and the collision count.
    async fn revisions_of(
        &self,
        set: &StatefulSet,
        revisions: &[ControllerRevision],
    ) -> Result<(ControllerRevision, ControllerRevision, Option<i32>), Error> {
        let spec = set.spec.clone().unwrap_or_default();
        let status = set.status.clone().unwrap_or_default();
        let mut collisions = status.collision_count;
        let update = loop {
            let wanted = NewRevision {
                parent: &set.metadata,
                owner: owner::controller_reference(set),
                template: &spec.template,
                labels: spec.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default(),
                hash_label: history::HASH_LABEL,
                annotations: set.metadata.annotations.clone(),
                number: history::next_number(revisions),
                collision_count: collisions,
            }
            .build();
            let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
            match history::write(&self.client, namespace, history::current(revisions, wanted)).await {
                Ok(revision) => break revision,
                Err(error) if api::is_already_exists(&error) => {
                    collisions = Some(collisions.unwrap_or(0) + 1)
                }
                Err(error) => return Err(error.into()),
            }
        };
        let current = revisions
            .iter()
            .find(|r| r.metadata.name == status.current_revision && r.metadata.name.is_some())
            .unwrap_or(&update)
            .clone();
        Ok((current, update, collisions))
    }
}

fn revision(set: &StatefulSet, revision: &ControllerRevision) -> Revision {
    let template = history::template(revision);
    Revision {
        name: revision.metadata.name.clone().unwrap_or_default(),
        template: template.unwrap_or_else(|| set.spec.clone().unwrap_or_default().template),
    }
}

/// When ready pods become available nothing changes that would wake us.
fn next_check(set: &StatefulSet, pods: &[Arc<Pod>]) -> Outcome {
    let now = Timestamp::now();
    let seconds = set.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0);
    pods::next_available(pods, seconds, now)
        .map_or(Outcome::Done, |at| Outcome::RequeueAfter(time::until(now, at)))
}
