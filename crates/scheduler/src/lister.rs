//! What plugins look up beyond nodes and pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Informer, Informers};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

/// Objects that decide about scheduling, as they are now.
pub trait Lister: Send + Sync + 'static {
    /// The labels of a namespace; None if it is not known.
    fn namespace_labels(&self, name: &str) -> Option<BTreeMap<String, String>>;
    /// The disruption budgets of a namespace.
    fn budgets(&self, namespace: &str) -> Vec<Arc<PodDisruptionBudget>>;
}

/// A [`Lister`] over informers.
pub struct Informed {
    namespaces: Informer<Namespace>,
    budgets: Informer<PodDisruptionBudget>,
}

impl Informed {
    /// Starts the informers.
    pub fn new(informers: &Informers) -> Self {
        Self { namespaces: informers.get(), budgets: informers.get() }
    }

    /// Waits until the informers have seen everything once.
    pub async fn synced(&self) {
        self.namespaces.synced().await;
        self.budgets.synced().await;
    }
}

impl Lister for Informed {
    fn namespace_labels(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let namespace = self.namespaces.cache().get(None, name)?;
        Some(namespace.metadata.labels.clone().unwrap_or_default())
    }

    fn budgets(&self, namespace: &str) -> Vec<Arc<PodDisruptionBudget>> {
        self.budgets.cache().list_namespace(namespace)
    }
}
