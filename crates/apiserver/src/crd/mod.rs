//! Custom resources: definitions become served resources.

mod controller;
mod defaults_on_read;
mod names;
mod resource;
mod webhook_conversion;
#[cfg(test)]
mod webhook_conversion_tests;

pub(crate) use controller::run;

/// The finalizer by which a definition waits for its objects to go.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Group of definitions.
pub const GROUP: &str = "apiextensions.k8s.io";
/// Resource of definitions.
pub const PLURAL: &str = "customresourcedefinitions";

/// Facts of a custom resource's definition that its requests need.
#[derive(Debug, Default, Clone)]
pub struct CustomFacts {
    /// Where the replicas are, e.g. `.spec.replicas`.
    pub scale_spec_path: String,
    /// Where the present replicas are.
    pub scale_status_path: String,
    /// Where the selector's text is.
    pub scale_selector_path: String,
    /// Between versions a webhook must be asked, which is not implemented: other versions answer 501.
    pub webhook_conversion: bool,
    /// The definition is being deleted: nothing new is created.
    pub terminating: bool,
}
