//! DaemonSets: a pod on every node that fits (upstream's daemon controller).

mod act;
mod plan;
mod pod;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Cache, Event, EventRecorder, EventType, Informer, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;

use self::plan::Observed;
use crate::Error;
use crate::common::expectations::Expectations;
use crate::common::history::{self, NewRevision};
use crate::common::pod_control::PodControl;
use crate::common::selector::Matcher;
use crate::common::watching::{Owners, watch_keys, watch_owned};
use crate::common::{api, owner, time};
use crate::context::Context;

/// First and longest pause between replacements of a pod that fails on a node.
const FAILED_BACKOFF_MIN: Duration = Duration::from_secs(1);
const FAILED_BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);

struct Controller {
    client: kube::Client,
    events: EventRecorder,
    pod_control: PodControl,
    sets: Cache<DaemonSet>,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    revisions: Cache<ControllerRevision>,
    expectations: Arc<Expectations>,
    /// Pause and last replacement, by set and node.
    failures: Mutex<HashMap<(ObjectKey, String), (Duration, Instant)>>,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let sets = context.informers.get::<DaemonSet>();
    let pods = context.informers.get::<Pod>();
    let nodes = context.informers.get::<Node>();
    let revisions = context.informers.get::<ControllerRevision>();
    let queue = WorkQueue::new("daemonset");
    let expectations = Arc::new(Expectations::default());
    let owners = |expectations| Owners {
        cache: sets.cache(),
        queue: queue.clone(),
        expectations,
        selector: |set: &DaemonSet| selector_of(set),
    };
    watch_owned(&pods, owners(Some(expectations.clone())));
    watch_owned(&revisions, owners(None));
    watch_keys(&sets, &queue);
    watch_nodes(&nodes, sets.cache(), &queue);
    sets.synced().await;
    pods.synced().await;
    nodes.synced().await;
    revisions.synced().await;
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        events: context.events.clone(),
        pod_control: PodControl::new(context.client.clone(), context.events.clone()),
        sets: sets.cache(),
        pods: pods.cache(),
        nodes: nodes.cache(),
        revisions: revisions.cache(),
        expectations,
        failures: Mutex::default(),
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

fn selector_of(set: &DaemonSet) -> Matcher {
    set.spec.as_ref().and_then(|s| Matcher::new(&s.selector).ok()).unwrap_or_else(Matcher::nothing)
}

/// Adds the sets for which a node's change makes a difference.
fn watch_nodes(nodes: &Informer<Node>, sets: Cache<DaemonSet>, queue: &WorkQueue<ObjectKey>) {
    let queue = queue.clone();
    nodes.on_event(move |event| {
        if let Event::Updated { old, new } = event {
            let facts =
                |n: &Node| (n.metadata.labels.clone(), n.spec.as_ref().and_then(|s| s.taints.clone()));
            if facts(old) == facts(new) {
                return;
            }
        }
        for set in sets.list() {
            let concerned = match event {
                Event::Updated { old, new } => {
                    let spec = pod::template(&set, "").spec.unwrap_or_default();
                    plan::concerns(&spec, old, new)
                }
                _ => true,
            };
            if concerned {
                queue.add(ObjectKey::of(set.as_ref()));
            }
        }
    });
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(set) = self.sets.get_key(key) else {
            self.expectations.forget(key);
            self.failures.lock().retain(|(of, _), _| of != key);
            return Ok(Outcome::Done);
        };
        let selector = selector_of(&set);
        if selector.is_empty() {
            let text = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.events.event(set.as_ref(), EventType::Warning, "SelectingAll", text);
            return Ok(Outcome::Done);
        }
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        // Before the pods are read: what is seen of them now must include what was expected.
        let may_act = self.expectations.satisfied(key);
        let (revisions, current, collisions) = self.current_revision(&set, &selector).await?;
        let claims =
            owner::claim(&set.metadata, owner::candidates(&self.pods, &set.metadata), |pod: &Pod| {
                selector.matches(pod.metadata.labels.as_ref())
            });
        let pods = owner::settle(&self.client, set.as_ref(), claims, None).await?;
        let hash = history::hash_of(&current).to_owned();
        let observed = Observed::new(&set, pods, &self.nodes.list(), &hash, time::now());
        let (mut failure, mut requeue) = (None, None);
        if may_act {
            let plan = plan::plan(&observed, |node| self.wait_after_failure(key, node))?;
            requeue = plan.requeue;
            failure = self.act(key, &observed, plan).await.err();
            self.forget_history(&observed, &revisions, &current).await?;
        }
        self.write_status(&set, plan::status(&observed, collisions)).await?;
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(requeue.map_or(Outcome::Done, Outcome::RequeueAfter)),
        }
    }

    /// All revisions, the one of the current template, and the collision count.
    async fn current_revision(
        &self,
        set: &DaemonSet,
        selector: &Matcher,
    ) -> Result<(Vec<ControllerRevision>, ControllerRevision, Option<i32>), Error> {
        let found = owner::candidates(&self.revisions, &set.metadata);
        let claims = owner::claim(&set.metadata, found, |r: &ControllerRevision| {
            selector.matches(r.metadata.labels.as_ref())
        });
        let settled = owner::settle(&self.client, set, claims, None).await?;
        let revisions: Vec<ControllerRevision> =
            settled.iter().map(|r| ControllerRevision::clone(r)).collect();
        let spec = set.spec.clone().unwrap_or_default();
        let mut collisions = set.status.as_ref().and_then(|s| s.collision_count);
        loop {
            let wanted = NewRevision {
                parent: &set.metadata,
                owner: owner::controller_reference(set),
                template: &spec.template,
                labels: spec.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default(),
                hash_label: history::REVISION_LABEL,
                annotations: set.metadata.annotations.clone(),
                number: history::next_number(&revisions),
                collision_count: collisions,
            }
            .build();
            let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
            match history::write(&self.client, namespace, history::current(&revisions, wanted)).await {
                Ok(current) => return Ok((revisions, current, collisions)),
                Err(error) if api::is_already_exists(&error) => {
                    collisions = Some(collisions.unwrap_or(0) + 1)
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How long a pod that failed on `node` must not be replaced yet; None if it may be now, which is then noted.
    fn wait_after_failure(&self, key: &ObjectKey, node: &str) -> Option<Duration> {
        let mut failures = self.failures.lock();
        let now = Instant::now();
        failures.retain(|_, (_, last)| now.duration_since(*last) < FAILED_BACKOFF_MAX * 2);
        let entry = failures.entry((key.clone(), node.to_owned()));
        let (pause, last) = entry.or_insert((Duration::ZERO, now));
        if let Some(left) = pause.checked_sub(now.duration_since(*last)).filter(|left| !left.is_zero()) {
            return Some(left);
        }
        *pause = (*pause * 2).clamp(FAILED_BACKOFF_MIN, FAILED_BACKOFF_MAX);
        *last = now;
        None
    }
}
