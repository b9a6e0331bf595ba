//! MutatingAdmissionWebhook and ValidatingAdmissionWebhook: admission by webhooks that users configure.

mod call;
mod hook;
mod mutating;
mod review;
mod validating;

pub use mutating::MutatingAdmissionWebhook;
pub use validating::ValidatingAdmissionWebhook;

#[cfg(test)]
mod tests;
