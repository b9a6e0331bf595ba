//! Custom resources: definitions become served resources.

/// Facts of a custom resource's definition that its requests need.
#[derive(Debug, Default)]
pub struct CustomFacts {
    /// Where the replicas are, e.g. `.spec.replicas`.
    pub scale_spec_path: String,
    /// Where the present replicas are.
    pub scale_status_path: String,
    /// Where the selector's text is.
    pub scale_selector_path: String,
}
