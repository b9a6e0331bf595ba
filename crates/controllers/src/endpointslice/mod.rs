//! EndpointSlices of services with a selector (upstream's endpointslice controller).

mod endpoints;
mod plan;
pub(crate) mod slices;

use std::sync::Arc;

use client::{Cache, Event, EventRecorder, EventType, Kind, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

pub(crate) use self::endpoints::ports_key;
use self::slices::{MANAGED_BY_LABEL, SERVICE_LABEL, SliceWriter};
use crate::Error;
use crate::common::services::{TriggerTimes, selector_of, watch_service_pods};
use crate::common::watching::watch_keys;
use crate::common::written::Written;
use crate::context::Context;

/// What this controller writes into [`MANAGED_BY_LABEL`].
pub(crate) const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// Index of slices by `namespace/service` of those that a controller manages.
const SERVICE_INDEX: &str = "service-of-managed-slice";

struct Controller {
    writer: SliceWriter,
    events: EventRecorder,
    services: Cache<Service>,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
    slices: Cache<EndpointSlice>,
    triggers: TriggerTimes,
    max_endpoints: usize,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let services = context.informers.get::<Service>();
    let pods = context.informers.get::<Pod>();
    let nodes = context.informers.get::<Node>();
    let slices = context.informers.get::<EndpointSlice>();
    let queue = WorkQueue::new("endpointslice");
    let written = Arc::new(Written::default());
    watch_keys(&services, &queue);
    watch_service_pods(&pods, services.cache(), queue.clone());
    watch_managed(&slices, CONTROLLER, &queue, &written);
    services.synced().await;
    pods.synced().await;
    nodes.synced().await;
    slices.synced().await;
    let controller = Arc::new(Controller {
        writer: SliceWriter { client: context.client.clone(), written },
        events: context.events.clone(),
        services: services.cache(),
        pods: pods.cache(),
        nodes: nodes.cache(),
        slices: slices.cache(),
        triggers: TriggerTimes::default(),
        max_endpoints: context.config.max_endpoints_per_slice.max(1),
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

/// The slices of a service that `manager` manages, by name. Needs [`watch_managed`].
pub(crate) fn managed_slices(
    slices: &Cache<EndpointSlice>,
    manager: &str,
    service: &ObjectKey,
) -> Vec<Arc<EndpointSlice>> {
    let mut found = slices.by_index(SERVICE_INDEX, &service.to_string());
    found.retain(|slice| label(slice.as_ref(), MANAGED_BY_LABEL) == Some(manager));
    found
}

fn label<'a>(object: &'a impl Kind, name: &str) -> Option<&'a str> {
    object.meta().labels.as_ref()?.get(name).map(String::as_str)
}

/// The service that a slice belongs to.
fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let service = label(slice, SERVICE_LABEL)?;
    Some(ObjectKey::namespaced(slice.metadata.namespace.clone().unwrap_or_default(), service))
}

/// Adds a service's key when one of the slices that `manager` keeps for it changes.
pub(crate) fn watch_managed(
    slices: &client::Informer<EndpointSlice>,
    manager: &'static str,
    queue: &WorkQueue<ObjectKey>,
    written: &Arc<Written>,
) {
    slices
        .add_index(SERVICE_INDEX, |slice| service_of(slice).map(|key| key.to_string()).into_iter().collect());
    let (queue, written) = (queue.clone(), written.clone());
    slices.on_event(move |event| {
        let slice = event.object();
        let was_managed = match event {
            Event::Updated { old, .. } => label(old.as_ref(), MANAGED_BY_LABEL) == Some(manager),
            _ => false,
        };
        if label(slice.as_ref(), MANAGED_BY_LABEL) != Some(manager) && !was_managed {
            return;
        }
        for object in [Some(slice), if let Event::Updated { old, .. } = event { Some(old) } else { None }] {
            let Some(service) = object.and_then(|slice| service_of(slice)) else { continue };
            if let Event::Deleted(slice) = event {
                written.gone(&service, &slice.metadata);
            }
            queue.add(service);
        }
    });
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(service) = self.services.get_key(key) else {
            self.triggers.forget(key);
            self.writer.written.forget(key);
            return Ok(Outcome::Done);
        };
        let Some(selector) = selector_of(&service) else { return Ok(Outcome::Done) };
        let mut existing = managed_slices(&self.slices, CONTROLLER, key);
        if !self.writer.written.is_seen(key, &self.slices) {
            // The event that brings the cache up to date adds the key again.
            return Ok(Outcome::Done);
        }
        existing.retain(|slice| slice.metadata.deletion_timestamp.is_none());
        let mut pods = self.pods.list_namespace(key.namespace_or_empty());
        pods.retain(|pod| selector.matches(pod.metadata.labels.as_ref()));
        let trigger = self.triggers.next(&service, &pods);
        let (desired, missing) = endpoints::desired(&service, &pods, |node| self.nodes.get(None, node));
        let actions = plan::plan(&service, desired, &existing, trigger, self.max_endpoints);
        if let Err(error) = self.writer.act(key, actions).await {
            let text = format!("Error updating Endpoint Slices for Service {key}: {error}");
            self.events.event(service.as_ref(), EventType::Warning, "FailedToUpdateEndpointSlices", text);
            return Err(error.into());
        }
        match missing {
            Some(node) => {
                Err(Error::Again(format!("node {node:?} of a pod of service {key} is not known yet")))
            }
            None => Ok(Outcome::Done),
        }
    }
}
