//! Pulling from registries by the OCI distribution protocol.

mod answers;
mod auth;
mod client;
mod connect;
mod endpoint;

use std::collections::BTreeMap;
use std::path::PathBuf;

use tonic::Code;

pub use auth::Credentials;
pub use client::{RegistryClient, Resolved};

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// Registries (`host[:port]`) that may be spoken to over plain HTTP and with certificates that nobody vouches for.
    /// Loopback addresses may always be plain.
    pub insecure: Vec<String>,
    /// Base URLs to try before the registry itself, by registry; `*` is for all that are not named.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Further certificate authorities, PEM files, beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// An HTTP proxy (`http://host:port`) for registries that are not on loopback.
    pub proxy: Option<String>,
    /// Hosts and domain suffixes that the proxy is not used for.
    pub no_proxy: Vec<String>,
}

/// Why a registry did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No connection, or it broke.
    #[error("failed to do request to {url}: {message}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The cause.
        message: String,
    },
    /// The registry does not have it.
    #[error("{name}: not found")]
    NotFound {
        /// The image or blob.
        name: String,
    },
    /// The registry wants (other) credentials.
    #[error(
        "pull access denied, repository does not exist or may require authorization: server message: {message}"
    )]
    Denied {
        /// What the registry said.
        message: String,
    },
    /// Any other answer.
    #[error("unexpected status from GET request to {url}: {status}{message}")]
    Status {
        /// What was asked for.
        url: String,
        /// Code and reason.
        status: String,
        /// What the registry said, after a colon.
        message: String,
    },
    /// The answer makes no sense.
    #[error("invalid answer from {url}: {message}")]
    Invalid {
        /// What was asked for.
        url: String,
        /// What is wrong.
        message: String,
    },
    /// The configuration of registries is wrong.
    #[error("registry configuration: {0}")]
    Config(String),
}

impl RegistryError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::NotFound,
            _ => Code::Unknown,
        }
    }

    /// True if the same request may succeed at once.
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => status.starts_with('5') || status.starts_with("429"),
            _ => false,
        }
    }
}
