//! Events as `events.k8s.io` has them: stricter than those of the core group, which are the same objects.

use rules::{FieldError, Path, meta::IMMUTABLE};
use schema::Value;

use super::{Context, Generic, Strategy};

/// See the module.
pub struct Events(pub Generic);

/// Fields that no update changes.
const FIXED: [&str; 13] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "reportingComponent",
    "reportingInstance",
    "action",
    "related",
    "type",
    "eventTime",
];

impl Strategy for Events {
    fn generic(&self) -> &Generic {
        &self.0
    }

    fn validate(&self, context: &Context<'_>, event: &Value) -> Vec<FieldError> {
        let mut errors = self.0.validate(context, event);
        errors.iter_mut().for_each(name_as_served);
        let invalid = |field: &str, words: &str| FieldError::invalid(&Path::new(field), "", words);
        if event["eventTime"].is_zero() {
            errors.push(FieldError::required(&Path::new("eventTime"), ""));
        }
        if !matches!(event.str_at("type"), Some("Normal" | "Warning")) {
            errors.push(invalid("type", "has invalid value: "));
        }
        for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
            if !event[field].is_zero() {
                errors.push(invalid(field, "needs to be unset"));
            }
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.0.validate_update(context, new, old);
        errors.iter_mut().for_each(name_as_served);
        for field in FIXED {
            if new[field] != old[field] && !(new[field].is_zero() && old[field].is_zero()) {
                let shown = rules::BadValue::raw(String::from_utf8_lossy(&codec::json::encode(&new[field])));
                let mut error = FieldError::invalid(&Path::new(field), shown, IMMUTABLE);
                name_as_served(&mut error);
                errors.push(error);
            }
        }
        errors
    }
}

/// The one field whose name differs in messages.
fn name_as_served(error: &mut FieldError) {
    if error.field == "reportingComponent" {
        error.field = "reportingController".to_owned();
    }
}
