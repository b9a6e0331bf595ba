//! How components reach the API server: transports for [`kube::Client`], shared informers, work queues, events and
//! leader election.
//!
//! A component sees this crate and nothing of the API server or its store. Whether the API server is in the same
//! process or far away is decided by whoever hands over the [`kube::Client`].

mod cache;
mod election;
mod events;
mod informer;
mod key;
mod kubeconfig;
mod reflector;
mod transport;
mod workers;
mod workqueue;

pub use cache::Cache;
pub use election::{ElectionConfig, Leadership, elect};
pub use events::{EventRecorder, EventType, Reference};
pub use informer::{Event, Informer, Informers, Kind, Selector};
pub use key::ObjectKey;
pub use kubeconfig::from_kubeconfig;
pub use transport::{BoxError, RemoteConfig, RequestBody, in_process, remote};
pub use workers::{Outcome, run_workers};
pub use workqueue::WorkQueue;

/// Why the API server cannot be reached as configured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of credentials is missing or unusable.
    #[error("credentials: {0}")]
    Credentials(#[from] pki::Error),
    /// The server's address is no URL with scheme, host and port.
    #[error("server address {address:?}: {reason}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {path}: {reason}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}
