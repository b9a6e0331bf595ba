//! Why the server could not be made or started.

use std::path::PathBuf;

/// Errors outside of requests; requests fail with [`crate::ApiError`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A configuration file says what cannot be used.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A flag has a value that cannot be used.
    #[error("--{flag}: {reason}")]
    Flag {
        /// Upstream's name of the flag, without dashes.
        flag: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// The store refused.
    #[error("store: {0}")]
    Store(#[from] store::Error),
    /// An object that the server makes for itself was refused.
    #[error("bootstrap {what}: {source}")]
    Bootstrap {
        /// Which object.
        what: String,
        /// Why.
        source: crate::ApiError,
    },
    /// The listener failed.
    #[error("serve: {0}")]
    Serve(#[source] std::io::Error),
}
