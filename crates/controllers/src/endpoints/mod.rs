//! Endpoints of services with a selector (upstream's endpoint controller): what older readers take instead of slices.

mod plan;

use std::sync::Arc;

use client::{Cache, Event, EventRecorder, EventType, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use self::plan::{Action, plan};
use crate::Error;
use crate::common::api;
use crate::common::services::{TriggerTimes, selector_of, watch_service_pods};
use crate::common::watching::watch_keys;
use crate::context::Context;

/// Endpoints that leader election keeps its record in are nobody's leftovers.
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

struct Controller {
    client: kube::Client,
    events: EventRecorder,
    services: Cache<Service>,
    pods: Cache<Pod>,
    endpoints: Cache<Endpoints>,
    triggers: TriggerTimes,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let services = context.informers.get::<Service>();
    let pods = context.informers.get::<Pod>();
    let endpoints = context.informers.get::<Endpoints>();
    let queue = WorkQueue::new("endpoints");
    watch_keys(&services, &queue);
    watch_service_pods(&pods, services.cache(), queue.clone());
    let deleted = queue.clone();
    endpoints.on_event(move |event| {
        if let Event::Deleted(last) = event {
            deleted.add(ObjectKey::of(last.as_ref()));
        }
    });
    services.synced().await;
    pods.synced().await;
    endpoints.synced().await;
    // Only what was left over while we did not run: endpoints that somebody makes without a service are theirs.
    for leftover in endpoints.cache().list_where(|e| !is_election(e)) {
        queue.add(ObjectKey::of(leftover.as_ref()));
    }
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        events: context.events.clone(),
        services: services.cache(),
        pods: pods.cache(),
        endpoints: endpoints.cache(),
        triggers: TriggerTimes::default(),
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

fn is_election(endpoints: &Endpoints) -> bool {
    endpoints.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(LEADER_ANNOTATION))
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let existing = self.endpoints.get_key(key);
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
        let Some(service) = self.services.get_key(key) else {
            self.triggers.forget(key);
            if existing.is_some_and(|e| !is_election(&e)) {
                api::ignore_not_found(api.delete(&key.name, &DeleteParams::default()).await)?;
            }
            return Ok(Outcome::Done);
        };
        let Some(selector) = selector_of(&service) else { return Ok(Outcome::Done) };
        let mut pods = self.pods.list_namespace(key.namespace_or_empty());
        pods.retain(|pod| selector.matches(pod.metadata.labels.as_ref()));
        let trigger = self.triggers.next(&service, &pods);
        let Some(action) = plan(&service, &pods, existing.as_deref(), trigger) else {
            return Ok(Outcome::Done);
        };
        let (written, reason) = match &action {
            Action::Create(e) => (api.create(&PostParams::default(), e).await, "FailedToCreateEndpoint"),
            Action::Update(e) => {
                (api.replace(&key.name, &PostParams::default(), e).await, "FailedToUpdateEndpoint")
            }
        };
        match written {
            Ok(_) => Ok(Outcome::Done),
            Err(error) if api::is_namespace_terminating(&error) => Ok(Outcome::Done),
            Err(error) => {
                if !api::is_conflict(&error) && !api::is_already_exists(&error) {
                    let verb = if reason.contains("Create") { "create" } else { "update" };
                    let text = format!("Failed to {verb} endpoint {key}: {}", api::message(&error));
                    self.events.event(service.as_ref(), EventType::Warning, reason, text);
                }
                Err(error.into())
            }
        }
    }
}
