//! The container runtime: a CRI v1 server with images, snapshots, sandboxes, containers and streams.
//!
//! It knows nothing of the Kubernetes API: the kubelet speaks to it over a unix socket, as to any other runtime.
//! [`run`] serves one runtime; what belongs to it is below the directories of its [`Config`], so that several can run
//! side by side. Its pods survive its end and are found again at the next start.

mod cni;
mod config;
mod container;
mod disk;
mod error;
mod images;
mod locks;
mod netns;
mod node;
mod persist;
mod registry;
mod sandbox;
mod service;
mod snapshots;
mod spec;
mod stats;
mod streaming;

use base::TaskScope;

pub use cni::{CniConfig, POD_CIDR_PLACEHOLDER};
pub use config::{Config, DEFAULT_HANDLER};
pub use error::{Error, Result};
pub use registry::{RegistryConfig, RegistryError};

/// Serves the runtime until `scope` is cancelled. Pods go on running after that.
///
/// The socket answers once everything that ran before has been found again.
pub async fn run(config: Config, scope: TaskScope) -> Result<()> {
    let socket = config.socket.clone();
    let node = node::Node::open(config, scope.clone()).await?;
    tracing::info!(socket = %socket.display(), "container runtime ready");
    service::serve(node, &socket, &scope).await
}
