//! Custom resources: definitions become served resources.

/// Facts of a custom resource's definition that its requests need.
#[derive(Debug, Default)]
pub struct CustomFacts {}
