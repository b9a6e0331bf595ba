//! Events: `events.k8s.io/v1` is the core kind under other names.

use schema::{Resource, Schema, Value};

use super::normal;
use crate::registry::Conversion;
use crate::status::ApiResult;

/// Field of `events.k8s.io/v1`, and of core `v1`.
const NAMES: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// See the module.
pub struct Events {
    served: Schema,
    hub: Schema,
}

impl Events {
    /// Between these two.
    pub fn new(served: &Resource, hub: &Resource) -> Self {
        Self { served: served.schema.clone(), hub: hub.schema.clone() }
    }
}

fn rename(mut object: Value, names: impl Iterator<Item = (&'static str, &'static str)>) -> Value {
    for (from, to) in names {
        if let Some(value) = object.remove(from) {
            object.insert(to, value);
        }
    }
    object
}

impl Conversion for Events {
    fn convert_to_hub(&self, object: Value) -> ApiResult<Value> {
        normal(&rename(object, NAMES.into_iter()), &self.hub)
    }

    fn convert_from_hub(&self, object: Value) -> ApiResult<Value> {
        normal(&rename(object, NAMES.into_iter().map(|(new, old)| (old, new))), &self.served)
    }
}

/// The stored name of a field that a selector names as `events.k8s.io/v1` does.
pub fn stored_field(label: &str) -> Option<String> {
    if let Some(rest) = label.strip_prefix("regarding.") {
        return Some(format!("involvedObject.{rest}"));
    }
    (label == "reportingController").then(|| "reportingComponent".to_owned())
}
