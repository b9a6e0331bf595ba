//! EndpointSlices for Endpoints that someone keeps by hand (upstream's endpointslicemirroring controller).

mod plan;

use std::sync::Arc;

use client::{Cache, EventRecorder, EventType, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use self::plan::{is_to_be_mirrored, plan};
use crate::Error;
use crate::common::watching::watch_keys;
use crate::common::written::Written;
use crate::context::Context;
use crate::endpointslice::slices::{Action, SliceWriter};
use crate::endpointslice::{managed_slices, watch_managed};

/// What this controller writes into the slices' managed-by label.
pub(crate) const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";

struct Controller {
    writer: SliceWriter,
    events: EventRecorder,
    endpoints: Cache<Endpoints>,
    services: Cache<Service>,
    slices: Cache<EndpointSlice>,
    max_endpoints: usize,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let endpoints = context.informers.get::<Endpoints>();
    let services = context.informers.get::<Service>();
    let slices = context.informers.get::<EndpointSlice>();
    let queue = WorkQueue::new("endpointslice-mirroring");
    let written = Arc::new(Written::default());
    watch_keys(&endpoints, &queue);
    watch_keys(&services, &queue);
    watch_managed(&slices, CONTROLLER, &queue, &written);
    endpoints.synced().await;
    services.synced().await;
    slices.synced().await;
    let controller = Arc::new(Controller {
        writer: SliceWriter { client: context.client.clone(), written },
        events: context.events.clone(),
        endpoints: endpoints.cache(),
        services: services.cache(),
        slices: slices.cache(),
        max_endpoints: context.config.mirroring_max_endpoints_per_subset,
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        if !self.writer.written.is_seen(key, &self.slices) {
            // The event that brings the cache up to date adds the key again.
            return Ok(Outcome::Done);
        }
        let existing = managed_slices(&self.slices, CONTROLLER, key);
        let endpoints = self.endpoints.get_key(key).filter(|e| is_to_be_mirrored(e));
        let service = self.services.get_key(key).filter(|s| {
            s.spec.as_ref().and_then(|spec| spec.selector.as_ref()).is_none_or(|selector| selector.is_empty())
        });
        let actions = match (&endpoints, &service) {
            (Some(endpoints), Some(_)) => plan(endpoints, &existing, self.max_endpoints),
            _ => existing.iter().cloned().map(Action::Delete).collect(),
        };
        if let Err(error) = self.writer.act(key, actions).await {
            if let Some(endpoints) = &endpoints {
                let text = format!("Error updating Endpoint Slices for Endpoints {key}: {error}");
                self.events.event(
                    endpoints.as_ref(),
                    EventType::Warning,
                    "FailedToUpdateEndpointSlices",
                    text,
                );
            }
            return Err(error.into());
        }
        Ok(Outcome::Done)
    }
}
