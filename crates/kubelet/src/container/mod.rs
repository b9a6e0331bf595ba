//! What a container and its sandbox are made with: environment, security, resources, mounts, names and DNS.

pub mod config;
pub mod dns;
pub mod env;
pub mod expand;
pub mod field;
pub mod hosts;
pub mod lifecycle;
pub mod linux;
pub mod sandbox;
pub mod security;
pub mod service_env;
pub mod termination;
