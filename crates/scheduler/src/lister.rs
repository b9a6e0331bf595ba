//! What plugins look up beyond nodes and pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Event, Informer, Informers};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use tokio::sync::watch;

use crate::framework::{Action, ClusterEvent, Resource};

/// Objects that decide about scheduling, as they are now.
pub trait Lister: Send + Sync + 'static {
    /// The labels of a namespace; None if it is not known.
    fn namespace_labels(&self, name: &str) -> Option<BTreeMap<String, String>>;
    /// The disruption budgets of a namespace.
    fn budgets(&self, namespace: &str) -> Vec<Arc<PodDisruptionBudget>>;
    /// A volume claim.
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>>;
    /// A volume.
    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>>;
    /// All volumes.
    fn volumes(&self) -> Vec<Arc<PersistentVolume>>;
    /// A storage class.
    fn class(&self, name: &str) -> Option<Arc<StorageClass>>;
    /// Tells of changes of claims and volumes.
    fn changes(&self) -> watch::Receiver<()>;
}

/// A [`Lister`] over informers.
pub struct Informed {
    namespaces: Informer<Namespace>,
    budgets: Informer<PodDisruptionBudget>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    changes: watch::Receiver<()>,
}

impl Informed {
    /// Starts the informers; `tell` hears of what pods may have waited for.
    pub fn new(informers: &Informers, tell: impl Fn(ClusterEvent) + Clone + Send + Sync + 'static) -> Self {
        let (sender, changes) = watch::channel(());
        let sender = Arc::new(sender);
        let (claims, volumes, classes) = (informers.get(), informers.get(), informers.get());
        follow(&claims, Resource::PersistentVolumeClaim, sender.clone(), tell.clone());
        follow(&volumes, Resource::PersistentVolume, sender.clone(), tell.clone());
        follow(&classes, Resource::StorageClass, sender, tell);
        Self { namespaces: informers.get(), budgets: informers.get(), claims, volumes, classes, changes }
    }

    /// Waits until the informers have seen everything once.
    pub async fn synced(&self) {
        self.namespaces.synced().await;
        self.budgets.synced().await;
        self.claims.synced().await;
        self.volumes.synced().await;
        self.classes.synced().await;
    }
}

fn follow<K: client::Kind>(
    informer: &Informer<K>,
    resource: Resource,
    changed: Arc<watch::Sender<()>>,
    tell: impl Fn(ClusterEvent) + Send + Sync + 'static,
) {
    informer.on_event(move |event| {
        let action = match event {
            Event::Added(_) => Action::ADD,
            Event::Updated { .. } => Action::UPDATE_OTHER,
            Event::Deleted(_) => Action::DELETE,
        };
        changed.send_replace(());
        tell(ClusterEvent::new(resource, action));
    });
}

impl Lister for Informed {
    fn namespace_labels(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let namespace = self.namespaces.cache().get(None, name)?;
        Some(namespace.metadata.labels.clone().unwrap_or_default())
    }

    fn budgets(&self, namespace: &str) -> Vec<Arc<PodDisruptionBudget>> {
        self.budgets.cache().list_namespace(namespace)
    }

    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        self.claims.cache().get(Some(namespace), name)
    }

    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.cache().get(None, name)
    }

    fn volumes(&self) -> Vec<Arc<PersistentVolume>> {
        self.volumes.cache().list()
    }

    fn class(&self, name: &str) -> Option<Arc<StorageClass>> {
        self.classes.cache().get(None, name)
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }
}
