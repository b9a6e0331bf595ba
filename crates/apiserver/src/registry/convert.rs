//! Between versions of a kind whose fields differ.

use std::sync::Arc;

use schema::{Resource, Value};

use crate::status::ApiResult;

/// Converts objects of one kind between the served and the stored version. `apiVersion` is set by the caller.
pub trait Conversion: Send + Sync + 'static {
    /// To the stored version.
    fn convert_to_hub(&self, object: Value) -> ApiResult<Value>;
    /// To the served version.
    fn convert_from_hub(&self, object: Value) -> ApiResult<Value>;
}

/// The conversion of a built-in resource, if its fields differ from those stored.
pub fn conversion_for(resource: &Resource, hub: &Resource) -> Option<Arc<dyn Conversion>> {
    if hub_equals(resource, hub) {
        return None;
    }
    crate::conversions::between(resource, hub)
}

/// True when both are the same group and version.
pub fn hub_equals(resource: &Resource, hub: &Resource) -> bool {
    resource.group == hub.group && resource.version == hub.version
}

impl super::Served {
    /// An object of the served version, in the stored one.
    pub fn convert_to_hub(&self, object: Value) -> ApiResult<Value> {
        if hub_equals(&self.resource, &self.hub) {
            return Ok(object);
        }
        let mut object = match &self.conversion {
            Some(conversion) => conversion.convert_to_hub(object)?,
            None => object,
        };
        object.insert("apiVersion", self.hub.api_version());
        Ok(object)
    }

    /// An object of the stored version (or any other that was stored once), in the served one.
    pub fn convert_from_hub(&self, object: Value) -> ApiResult<Value> {
        let mut object = match &self.conversion {
            Some(conversion) => conversion.convert_from_hub(object)?,
            None => object,
        };
        object.insert("apiVersion", self.resource.api_version());
        object.insert("kind", self.resource.kind.clone());
        Ok(object)
    }
}
