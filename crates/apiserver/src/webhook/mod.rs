//! Calling webhooks: HTTPS POST of JSON to a URL or a service, as admission, conversion, authentication and
//! authorization do it.
//!
//! [`WebhookClient`] keeps connections; [`Target`] says where a webhook is (`WebhookClientConfig`). Errors are worded
//! as Go's HTTP client words them, since users read them in Status messages.

mod client;
mod connect;
mod error;
mod resolver;
mod target;

pub use client::WebhookClient;
pub use resolver::{ClusterServices, ServiceResolver};
pub use target::Target;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
