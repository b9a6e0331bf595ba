//! Conversions between versions whose fields differ: one file per kind.

mod autoscaling;
pub(crate) mod events;

use std::sync::Arc;

use schema::{Resource, Schema, Value};

use crate::registry::Conversion;
use crate::status::{ApiError, ApiResult};

/// The conversion between two versions of a built-in kind; `None` when the fields are the same.
pub fn between(resource: &Resource, hub: &Resource) -> Option<Arc<dyn Conversion>> {
    match (resource.group.as_str(), resource.version.as_str(), resource.plural.as_str()) {
        ("events.k8s.io", "v1", "events") => Some(Arc::new(events::Events::new(resource, hub))),
        ("autoscaling", "v1", "horizontalpodautoscalers") => {
            Some(Arc::new(autoscaling::Autoscaling::new(resource, hub)))
        }
        _ => None,
    }
}

/// Brings a converted object into the normal form of its new type.
fn normal(object: &Value, schema: &Schema) -> ApiResult<Value> {
    codec::json::conform(object, schema)
        .map(|d| d.value)
        .map_err(|e| ApiError::internal(format!("convert: {e}")))
}
