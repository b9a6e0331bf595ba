//! Keys, certificates and the TLS configurations made of them.
//!
//! Certificates are read again when their files change, at the next handshake: renewing one needs no restart.
//! This crate knows file names and X.509; which certificates a cluster has is said in `corten`.

mod authority;
mod discovery;
mod files;
mod reload;
mod request;
mod tls;

pub use authority::{
    Authority, CertificateRequest, Issued, Usage, covers, remaining_validity, write_service_account_keys,
};
pub use discovery::{public_key_hash, unverified_client_config};
pub use files::{read_certificates, read_key, write_private, write_public};
pub use reload::{KeyPairFiles, Reloading};
pub use request::SigningRequest;
pub use tls::{ServerTls, client_config, peer_identity, server_config};

/// Why a key, a certificate or a TLS configuration could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds no usable certificate or key.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate signing request cannot be read or is not signed.
    #[error("certificate request: {reason}")]
    Request {
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("issue certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// A TLS configuration is refused.
    #[error("TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
    /// Client certificates cannot be verified with these authorities.
    #[error("client certificate authorities: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}
