//! kube-controller-manager: one folder per controller, each a pure `plan` and a thin `act`.
//!
//! A controller sees the API through informers that all controllers share, and writes with a client of its own identity.
//! Adding one touches its folder and one line of [`registry`]. This crate knows nothing of how the API server is
//! reached, nor of leader election: whoever calls [`run`] has decided both.

mod common;
mod config;
mod context;
mod registry;

pub use bootstrap::signature as cluster_info_signature;
pub use config::{Config, Selection, SelectionError};
pub use context::Clients;
pub use registry::{Registration, registrations};

mod autoscaler;
mod bootstrap;
mod certificates;
mod clusterrole_aggregation;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
mod endpointslice_mirroring;
mod ephemeral_volume;
mod garbage;
mod job;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod node_ttl;
mod pod_gc;
mod pv_binder;
mod replicaset;
mod resource_quota;
mod root_ca;
mod service_account;
mod service_cidrs;
mod statefulset;
mod taint_eviction;
mod token_secrets;
mod ttl_after_finished;
mod volume_protection;

/// Why the controllers cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--controllers` names a controller that there is not.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// A file that a controller needs cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key or certificate cannot be used.
    #[error("signing: {0}")]
    Signing(#[from] pki::Error),
    /// The API server refused or did not answer.
    #[error("API server: {0}")]
    Api(#[from] kube::Error),
    /// A selector of an object cannot be understood.
    #[error("selector: {0}")]
    Selector(#[from] common::selector::UnknownOperator),
    /// A number or percentage of an object cannot be understood.
    #[error("{0}")]
    Number(#[from] common::numbers::NotAPercentage),
    /// Anything else that makes a key be tried again.
    #[error("{0}")]
    Again(String),
}

/// Starts every selected controller, and returns when `scope` is cancelled.
///
/// Controllers begin to work when their informers have the first list; each fails and retries on its own.
pub async fn run(config: Config, clients: Clients, scope: base::TaskScope) -> Result<(), Error> {
    let selected = registry::select(&config.controllers)?;
    let informers = client::Informers::new(clients.root.clone(), &scope);
    let config = std::sync::Arc::new(config);
    // A scope whose last handle is dropped stops its tasks.
    let mut scopes = Vec::new();
    for registration in selected {
        let context =
            context::Context::new(registration, config.clone(), &clients, informers.clone(), &scope);
        scopes.push(context.scope.clone());
        let name = registration.name;
        let start = (registration.start)(context);
        scope.spawn(async move {
            if let Err(error) = start.await {
                tracing::error!(controller = name, %error, "controller did not start");
            }
        });
    }
    scope.token().cancelled().await;
    Ok(())
}
