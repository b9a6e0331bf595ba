//! ReplicaSets and ReplicationControllers: a number of equal pods (upstream's pkg/controller/replicaset).

mod flavor;
mod plan;

use std::sync::Arc;

use client::{Cache, Informer, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;

use self::flavor::Flavor;
use self::plan::{Action, Set, plan, status};
use crate::Error;
use crate::common::expectations::Expectations;
use crate::common::pod_control::{PodControl, pod_of};
use crate::common::watching::{Owners, watch_keys, watch_owned};
use crate::common::{api, owner, pods, time};
use crate::context::Context;

/// Starts the controller of ReplicaSets.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    run::<ReplicaSet>(context).await
}

/// Starts the controller of ReplicationControllers.
pub(crate) async fn start_replication_controllers(context: Context) -> Result<(), Error> {
    run::<ReplicationController>(context).await
}

struct Controller<S> {
    client: kube::Client,
    pod_control: PodControl,
    sets: Cache<S>,
    pods: Cache<Pod>,
    expectations: Arc<Expectations>,
}

async fn run<S: Flavor>(context: Context) -> Result<(), Error> {
    let sets: Informer<S> = context.informers.get();
    let pods: Informer<Pod> = context.informers.get();
    let queue = WorkQueue::new(S::QUEUE);
    let expectations = Arc::new(Expectations::default());
    owner::index_by_controller(&sets);
    let owners = Owners {
        cache: sets.cache(),
        queue: queue.clone(),
        expectations: Some(expectations.clone()),
        selector: |set: &S| set.view().selector,
    };
    watch_owned(&pods, owners);
    watch_keys(&sets, &queue);
    sets.synced().await;
    pods.synced().await;
    let controller = Arc::new(Controller {
        pod_control: PodControl::new(context.client.clone(), context.events.clone()),
        client: context.client.clone(),
        sets: sets.cache(),
        pods: pods.cache(),
        expectations,
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

impl<S: Flavor> Controller<S> {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(object) = self.sets.get_key(key) else {
            self.expectations.forget(key);
            return Ok(Outcome::Done);
        };
        let set = object.view();
        // Before the pods are read: what is seen of them now must include what was expected.
        let may_act = self.expectations.satisfied(key);
        let mut found = owner::candidates(&self.pods, &set.meta);
        found.retain(|pod| !pods::is_finished(pod));
        let claims =
            owner::claim(&set.meta, found, |pod: &Pod| set.selector.matches(pod.metadata.labels.as_ref()));
        let ours = owner::settle(&self.client, object.as_ref(), claims, None).await?;
        let now = time::now();
        let mut failure = None;
        if may_act && let Some(action) = plan(&set, &ours, &self.related(&set), now) {
            failure = self.act(key, object.as_ref(), &set, action).await.err();
        }
        let message = failure.as_ref().map(api::message);
        self.write_status(&object, &set, status(&set, &ours, message.as_deref(), now)).await?;
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(next_check(&set, &ours, now)),
        }
    }

    /// The pods of all sets with the same controller.
    fn related(&self, set: &Set) -> Vec<Arc<Pod>> {
        let pods_of =
            |uid: &Option<String>| owner::controlled_by(&self.pods, uid.as_deref().unwrap_or_default());
        match owner::controller_of(&set.meta) {
            None => pods_of(&set.meta.uid),
            Some(parent) => {
                let siblings = owner::controlled_by(&self.sets, &parent.uid);
                siblings.iter().flat_map(|sibling| pods_of(&sibling.meta().uid)).collect()
            }
        }
    }

    async fn act(&self, key: &ObjectKey, object: &S, set: &Set, action: Action) -> Result<(), kube::Error> {
        match action {
            Action::Create(count) => self.create(key, object, set, count).await,
            Action::Delete(victims) => self.delete(key, object, victims).await,
        }
    }

    async fn create(&self, key: &ObjectKey, object: &S, set: &Set, count: usize) -> Result<(), kube::Error> {
        let name = set.meta.name.as_deref().unwrap_or_default();
        let pod = pod_of(name, owner::controller_reference(object), &set.template);
        self.expectations.expect_creations(key, count);
        let (control, expectations) = (&self.pod_control, &*self.expectations);
        let (_, error) = control.create_expected(object, key, expectations, count, |_| pod.clone()).await;
        error.map_or(Ok(()), Err)
    }

    async fn delete(&self, key: &ObjectKey, object: &S, victims: Vec<Arc<Pod>>) -> Result<(), kube::Error> {
        let uids = victims.iter().map(|pod| pods::uid(pod).to_owned());
        self.expectations.expect_deletions(key, uids);
        let gone = self.pod_control.delete_expected(object, key, &self.expectations, &victims).await;
        gone.into_iter().collect()
    }

    async fn write_status(&self, object: &S, set: &Set, status: ReplicaSetStatus) -> Result<(), kube::Error> {
        let wanted = object.with_status(status.clone());
        if flavor::normalized(set.status.clone()) == flavor::normalized(wanted.view().status) {
            return Ok(());
        }
        let key = ObjectKey::of(object);
        let sets: Api<S> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
        match sets.replace_status(&key.name, &PostParams::default(), &wanted).await {
            Err(error) if api::is_conflict(&error) => {
                // Our cache is behind; the status is about our generation all the same.
                let Some(fresh) = sets.get_opt(&key.name).await?.filter(|f| f.meta().uid == set.meta.uid)
                else {
                    return Ok(());
                };
                sets.replace_status(&key.name, &PostParams::default(), &fresh.with_status(status)).await?;
                Ok(())
            }
            result => api::ignore_not_found(result).map(drop),
        }
    }
}

/// When ready pods become available nothing changes that would wake us.
fn next_check(set: &Set, ours: &[Arc<Pod>], now: Timestamp) -> Outcome {
    let active = ours.iter().filter(|pod| pods::is_active(pod));
    pods::next_available(active, set.min_ready_seconds, now)
        .map_or(Outcome::Done, |at| Outcome::RequeueAfter(time::until(Timestamp::now(), at)))
}
