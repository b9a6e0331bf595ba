//! Defaults that a custom resource's schema has got since an object was stored: they are there when it is read, as if
//! they always had been.

use std::sync::Arc;

use schema::{Resource, Value};

use crate::registry::Conversion;
use crate::status::ApiResult;

/// Fills in what the served version's schema says of missing fields.
pub struct DefaultsOnRead {
    resource: Arc<Resource>,
    /// The revision of the definition: what was stored since then has its defaults already.
    since: u64,
}

impl DefaultsOnRead {
    /// `since`: the revision of the definition.
    pub fn new(resource: Arc<Resource>, since: u64) -> Self {
        Self { resource, since }
    }
}

impl Conversion for DefaultsOnRead {
    fn convert_to_hub(&self, object: Value) -> ApiResult<Value> {
        Ok(object)
    }

    fn convert_from_hub(&self, mut object: Value) -> ApiResult<Value> {
        rules::apply_defaults(self.resource.schema.root(), &mut object);
        Ok(object)
    }

    fn is_needless(&self, revision: u64) -> bool {
        // In another version than the stored one, other fields may be missing.
        revision > self.since && self.resource.version == self.resource.storage.version.version
    }
}

/// True if an OpenAPI schema of a definition says what some missing field is.
pub fn has_defaults(schema: &Value) -> bool {
    let in_map = |name: &str| schema[name].entries().iter().any(|(_, child)| has_defaults(child));
    !schema["default"].is_null()
        || in_map("properties")
        || has_defaults_below(schema, "items")
        || has_defaults_below(schema, "additionalProperties")
}

fn has_defaults_below(schema: &Value, name: &str) -> bool {
    schema.get(name).is_some_and(|child| !child.entries().is_empty() && has_defaults(child))
}

#[cfg(test)]
mod tests {
    use schema::value;

    use super::*;

    #[test]
    fn defaults_are_found_at_any_depth() {
        let text = value!({"type": "string", "default": "x"});
        for (schema, expected) in [
            (value!({"type": "object", "properties": {"a": {"type": "string"}}}), false),
            (value!({"type": "object", "properties": {"default": {"type": "string"}}}), false),
            (value!({"type": "object", "properties": {"a": (text.clone())}}), true),
            (
                value!({"type": "array", "items": {"type": "object", "properties": {"a": (text.clone())}}}),
                true,
            ),
            (value!({"type": "object", "additionalProperties": (text.clone())}), true),
            (value!({"type": "object", "additionalProperties": true}), false),
        ] {
            assert_eq!(has_defaults(&schema), expected, "{schema:?}");
        }
    }
}
