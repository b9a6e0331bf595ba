//! kube-apiserver: authentication, authorization, admission and the registry over the store.
//!
//! A request's way: [`http`] (chain: who, how many, may they) → `api` (verbs) → [`registry`] (metadata, managed
//! fields, [`admission`], [`strategies`]) → store. There is one path for every kind, built in or custom; what a kind
//! adds is its schema and one strategy. This crate knows no component but the store and the kubelet's HTTP server.

pub mod admission;
mod aggregation;
mod api;
mod audit;
pub mod authn;
pub mod authz;
mod bootstrap;
mod conversions;
mod core;
mod crd;
mod discovery;
mod encoding;
mod encryption;
mod error;
mod extension;
mod flow;
mod health;
mod http;
mod metrics;
mod openapi_docs;
mod operation;
pub mod options;
mod outbound;
mod proxy;
pub mod registry;
mod reload;
mod request;
mod security;
pub mod selectors;
mod server;
mod service;
mod serving_cert;
pub mod status;
pub mod strategies;
mod subresource;
mod tls;
mod webhook;

pub use error::Error;
pub use extension::Extension;
pub use options::Options;
pub use server::{ApiService, Server};
pub use status::{ApiError, ApiResult};
pub use subresource::{IssuedToken, TokenClaims, TokenIssuer};
