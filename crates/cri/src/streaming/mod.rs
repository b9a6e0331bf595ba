//! Streams of exec, attach and port-forward: an HTTP server whose addresses are valid once and for a minute.
//!
//! The kubelet asks for an address by gRPC and joins its client's connection with it. Clients speak SPDY/3.1 or
//! WebSocket; both are turned into one [`session::Session`].

mod portforward;
mod remote;
mod server;
mod session;
mod spdy;
mod spdy_remote;
mod status;
mod websocket;
mod ws_portforward;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::TaskScope;
use parking_lot::Mutex;
use shim::Shim;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::container::AttachTraits;
use crate::disk;
use crate::error::{Error, Result};

/// How long an address may wait for its connection, and how many may wait (upstream's token cache).
const TOKEN_TTL: Duration = Duration::from_secs(60);
const MAX_TOKENS: usize = 1000;

/// What an address stands for.
pub enum Pending {
    /// A command in a container.
    Exec(Shim, shim::ExecRequest),
    /// A container's own streams, and how they behave.
    Attach(Shim, shim::AttachRequest, AttachTraits),
    /// Ports of a pod: its network namespace (`None` is the host's), and the ports asked for.
    PortForward(Option<PathBuf>, Vec<u16>),
}

/// The streaming server.
pub struct Streaming {
    address: SocketAddr,
    tokens: Arc<Tokens>,
}

#[derive(Default)]
struct Tokens(Mutex<HashMap<String, (Instant, Pending)>>);

impl Streaming {
    /// Listens on `address`; ends with `scope`.
    pub async fn start(address: SocketAddr, scope: &TaskScope) -> Result<Self> {
        let failed = |source| Error::Io { doing: format!("listen on {address} for streams"), source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tokens = Arc::new(Tokens::default());
        scope.spawn(server::serve(listener, tokens.clone(), scope.clone()));
        Ok(Self { address, tokens })
    }

    /// An address for one connection.
    pub fn url_for(&self, pending: Pending) -> Result<String> {
        let kind = match pending {
            Pending::Exec(..) => "exec",
            Pending::Attach(..) => "attach",
            Pending::PortForward(..) => "portforward",
        };
        let token = self.tokens.issue(pending)?;
        Ok(format!("http://{}/{kind}/{token}", self.address))
    }
}

impl Tokens {
    fn issue(&self, pending: Pending) -> Result<String> {
        let mut tokens = self.0.lock();
        let now = Instant::now();
        tokens.retain(|_, (expires, _)| *expires > now);
        if tokens.len() >= MAX_TOKENS {
            return Err(Error::ResourceExhausted("maximum number of in-flight requests exceeded".to_owned()));
        }
        let token = disk::new_id()?;
        tokens.insert(token.clone(), (now + TOKEN_TTL, pending));
        Ok(token)
    }

    fn take(&self, token: &str) -> Option<Pending> {
        let (expires, pending) = self.0.lock().remove(token)?;
        (expires > Instant::now()).then_some(pending)
    }
}
