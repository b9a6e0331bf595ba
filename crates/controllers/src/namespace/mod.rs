//! Deletion of namespaces with everything in them (upstream's namespace controller).

mod content;
mod plan;

use std::sync::Arc;

use client::{Cache, Event, Kind, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::PostParams;

use crate::Error;
use crate::common::watching::watch_keys;
use crate::common::{api, discovery, time};
use crate::context::Context;

struct Controller {
    client: kube::Client,
    namespaces: Cache<Namespace>,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let namespaces = context.informers.get::<Namespace>();
    let pods = context.informers.get::<Pod>();
    let claims = context.informers.get::<PersistentVolumeClaim>();
    let queue = WorkQueue::new("namespace");
    watch_keys(&namespaces, &queue);
    wake_when_gone(&pods, namespaces.cache(), &queue);
    wake_when_gone(&claims, namespaces.cache(), &queue);
    namespaces.synced().await;
    let controller = Arc::new(Controller { client: context.client.clone(), namespaces: namespaces.cache() });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

/// Pods and claims are what a deletion mostly waits for.
fn wake_when_gone<K: Kind>(
    objects: &client::Informer<K>,
    namespaces: Cache<Namespace>,
    queue: &WorkQueue<ObjectKey>,
) {
    let queue = queue.clone();
    objects.on_event(move |event| {
        let Event::Deleted(object) = event else { return };
        let key = ObjectKey::cluster(object.meta().namespace.clone().unwrap_or_default());
        if namespaces.get_key(&key).is_some_and(|n| n.metadata.deletion_timestamp.is_some()) {
            queue.add(key);
        }
    });
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(namespace) = self.namespaces.get_key(key) else { return Ok(Outcome::Done) };
        if !plan::is_to_be_emptied(&namespace) {
            return Ok(Outcome::Done);
        }
        let report = match discovery::discover(&self.client).await {
            Ok(found) => content::delete_all(&self.client, &key.name, &found).await,
            Err(error) => content::Report::undiscovered(&error),
        };
        let fresh = self.write_status(&namespace, &report).await?;
        let Some(fresh) = fresh else { return Ok(Outcome::Done) };
        if let Some(error) = report.first_error() {
            return Err(Error::Again(error));
        }
        if let Some(wait) = report.wait() {
            return Ok(Outcome::RequeueAfter(wait));
        }
        self.finalize(fresh).await
    }

    /// Writes phase and conditions; gives the namespace as it is then, or None if it is gone.
    async fn write_status(
        &self,
        namespace: &Namespace,
        report: &content::Report,
    ) -> Result<Option<Namespace>, kube::Error> {
        let Some(status) = plan::status(namespace, report, time::now()) else {
            return Ok(Some(namespace.clone()));
        };
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let wanted = Namespace { status: Some(status), ..namespace.clone() };
        api::ignore_not_found(namespaces.replace_status(&name, &PostParams::default(), &wanted).await)
    }

    /// Takes our finalizer off, so that the API server removes the namespace.
    async fn finalize(&self, mut namespace: Namespace) -> Result<Outcome, Error> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let name = namespace.metadata.name.clone().unwrap_or_default();
        if let Some(finalizers) = namespace.spec.get_or_insert_default().finalizers.as_mut() {
            finalizers.retain(|f| f != plan::FINALIZER);
        }
        let finalized =
            namespaces.replace_subresource("finalize", &name, &PostParams::default(), &namespace).await;
        api::ignore_not_found(finalized)?;
        Ok(Outcome::Done)
    }
}
