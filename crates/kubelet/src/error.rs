//! Why the kubelet cannot start or go on.

use std::path::PathBuf;

/// What ends the kubelet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory or file of the kubelet could not be made or read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The container runtime cannot be reached.
    #[error("container runtime at {}: {reason}", socket.display())]
    Runtime {
        /// Its socket.
        socket: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The configuration contradicts itself.
    #[error("configuration: {0}")]
    Config(String),
    /// The certificate of the node's HTTPS API is unusable.
    #[error("serving certificate: {0}")]
    Serving(#[from] pki::Error),
    /// The address of the node's HTTPS API is taken or wrong.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
