//! HTTP: bodies, media types, the chain every request passes, and the listener.

pub mod body;
mod chain;
mod coalesce;
mod gzip;
pub mod listener;
pub mod negotiate;
pub mod respond;

pub use body::{Body, BoxError};
pub(crate) use chain::handle;
