//! TLS of the secure port: versions, cipher suites, certificates by name, and which authority a client's certificate
//! is of.
//!
//! A certificate that nobody believes does not fail the handshake: its bearer may have other credentials, and is
//! answered 401 otherwise, as upstream does it.

mod authorities;
mod config;

pub use authorities::{ClientAuthorities, Verdict};
pub use config::server_config;
