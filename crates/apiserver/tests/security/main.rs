//! Who is believed, what is kept and what is passed on, with real servers and connections.

#![allow(clippy::unwrap_used)]

mod aggregation;
mod audit;
mod encryption;
mod fake;
mod identities;
mod kms;
mod misuse;
mod oidc;
mod operation;
mod server;
mod webhooks;
