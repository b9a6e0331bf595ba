//! Cluster DNS: services, headless and named pods, and forwarding (the Kubernetes DNS specification, version 1.1.0).
//!
//! [`answer`](zone::Zone::answer) is a pure function from a question and the objects seen last; serving and forwarding
//! are thin around it.

mod forward;
mod server;
mod view;
mod zone;

pub use forward::read_resolv_conf;
pub use view::{Endpoint, ServiceView, View};
pub use zone::{Answer, Zone};

use std::net::SocketAddr;
use std::sync::Arc;

use base::TaskScope;
use client::Informers;

/// How cluster DNS is served.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen, by UDP and TCP. The address need not be there yet.
    pub listen: SocketAddr,
    /// The cluster's domain, e.g. `cluster.local`.
    pub domain: String,
    /// Who is asked about all other names, in order; none: other names are refused.
    pub upstreams: Vec<SocketAddr>,
}

/// Why DNS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be had.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The domain is no DNS name.
    #[error("{0:?} is no domain")]
    Domain(String),
    /// A file with name servers cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Serves until `scope` ends. Returns when it listens; questions about the cluster are answered once the informers
/// have their first lists.
pub async fn run(config: Config, informers: &Informers, scope: &TaskScope) -> Result<(), Error> {
    let zone = Zone::new(&config.domain).ok_or_else(|| Error::Domain(config.domain.clone()))?;
    let view = view::Live::new(informers);
    let server = server::Server::bind(&config, zone, Arc::new(view))?;
    server.start(scope);
    Ok(())
}
