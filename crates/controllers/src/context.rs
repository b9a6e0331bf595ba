//! What a controller is given at its start.

use std::sync::Arc;

use base::TaskScope;
use client::{EventRecorder, Informers};

use crate::Config;
use crate::registry::Registration;

/// Clients by identity.
#[derive(Clone)]
pub struct Clients {
    /// Who lists and watches for all (upstream: `system:kube-controller-manager`).
    pub root: kube::Client,
    /// The client of a service account of namespace `kube-system`, e.g. `deployment-controller`.
    pub of_account: Arc<dyn Fn(&str) -> kube::Client + Send + Sync>,
}

impl Clients {
    /// One client for everything, as upstream without `--use-service-account-credentials`.
    pub fn single(client: kube::Client) -> Self {
        let root = client.clone();
        Self { root, of_account: Arc::new(move |_| client.clone()) }
    }
}

/// What one controller works with.
#[derive(Clone)]
pub(crate) struct Context {
    /// Settings.
    pub config: Arc<Config>,
    /// Writes, with the controller's identity.
    pub client: kube::Client,
    /// Reads, shared with all others.
    pub informers: Informers,
    /// Tells users.
    pub events: EventRecorder,
    /// Owns its tasks.
    pub scope: TaskScope,
    /// How many keys it reconciles at the same time.
    pub workers: usize,
}

impl Context {
    pub(crate) fn new(
        registration: &Registration,
        config: Arc<Config>,
        clients: &Clients,
        informers: Informers,
        scope: &TaskScope,
    ) -> Self {
        let client = match registration.account {
            "" => clients.root.clone(),
            account => (clients.of_account)(account),
        };
        let scope = scope.child(registration.name);
        let events = EventRecorder::new(client.clone(), registration.event_source, "", &scope);
        let workers = config.concurrent_syncs.get(registration.name).copied().unwrap_or(registration.workers);
        Self { config, client, informers, events, scope, workers }
    }
}
