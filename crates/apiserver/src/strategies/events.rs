//! Events as `events.k8s.io` has them: stricter than those of the core group, which are the same objects.

use rules::{FieldError, Path, meta::IMMUTABLE};
use schema::Value;

use super::traits::dns_subdomain;
use super::{Context, Generic, Strategy};

/// See the module.
pub struct Events(Generic);

/// Least number of occurrences that makes a series.
const SERIES_MIN: i64 = 2;

/// Fields that no update changes, in the order in which upstream looks; it looks twice at the reason.
const FIXED: [&str; 14] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "reason",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];

impl Events {
    /// Over the rules of the core group's events.
    pub fn new(generic: Generic) -> Self {
        Self(generic.with_traits(|traits| {
            traits.name_rule = dns_subdomain;
            traits.metadata_twice = true;
        }))
    }
}

impl Strategy for Events {
    fn generic(&self) -> &Generic {
        &self.0
    }

    fn validate(&self, context: &Context<'_>, event: &Value) -> Vec<FieldError> {
        let mut errors = self.0.validate(context, event);
        errors.iter_mut().for_each(name_as_served);
        validate_series(&event["series"], &mut errors);
        let invalid = |field: &str, words: &str| FieldError::invalid(&Path::new(field), "", words);
        if event["eventTime"].is_zero() {
            errors.push(FieldError::required(&Path::new("eventTime"), ""));
        }
        let kind = event.str_at("type").unwrap_or_default();
        if !matches!(kind, "Normal" | "Warning") {
            errors.push(invalid("type", &format!("has invalid value: {kind}")));
        }
        for field in ["firstTimestamp", "lastTimestamp", "count"] {
            if !event[field].is_zero() {
                errors.push(invalid(field, "needs to be unset"));
            }
        }
        if ["component", "host"].iter().any(|name| !event["source"][*name].is_zero()) {
            errors.push(invalid("source", "needs to be unset"));
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.0.validate_update(context, new, old);
        errors.iter_mut().for_each(name_as_served);
        if new["series"] != old["series"] {
            validate_series(&new["series"], &mut errors);
        }
        for field in FIXED {
            let path = Path::new(field);
            if differs(&new[field], &old[field]) {
                let mut error = FieldError::invalid(&path, &new[field], IMMUTABLE);
                name_as_served(&mut error);
                errors.push(error);
            }
        }
        errors
    }
}

fn differs(new: &Value, old: &Value) -> bool {
    let set = |value: &Value| match value {
        Value::Map(map) => map.values().any(|v| !v.is_zero()),
        value => !value.is_zero(),
    };
    new != old && (set(new) || set(old))
}

fn validate_series(series: &Value, errors: &mut Vec<FieldError>) {
    if series.is_null() {
        return;
    }
    if series.int_at("count").unwrap_or(0) < SERIES_MIN {
        let words = format!("should be at least {SERIES_MIN}");
        errors.push(FieldError::invalid(&Path::new("series.count"), "", words));
    }
    if series["lastObservedTime"].is_zero() {
        errors.push(FieldError::required(&Path::new("series.lastObservedTime"), ""));
    }
}

/// The one field whose name differs in messages.
fn name_as_served(error: &mut FieldError) {
    if error.field == "reportingComponent" {
        error.field = "reportingController".to_owned();
    }
}
