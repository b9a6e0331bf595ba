//! Custom resources: the definition's schema says it all.

use std::sync::{Arc, OnceLock};

use merge::go_type;
use rules::{BadValue, CustomRules, ErrorKind, FieldError, validate_custom};
use schema::{Resource, Value};

use super::{Context, Generic, Strategy};
use crate::crd::CustomFacts;

/// See the module.
pub struct Custom {
    generic: Generic,
    resource: Arc<Resource>,
    facts: Arc<CustomFacts>,
    /// The schema's CEL rules, if it has any; compiled when first needed.
    rules: OnceLock<Option<CustomRules>>,
}

impl Custom {
    /// Of one version.
    pub fn new(resource: Arc<Resource>, facts: Arc<CustomFacts>) -> Self {
        Self { generic: Generic::of(&resource), resource, facts, rules: OnceLock::new() }
    }

    fn rules(&self) -> Option<&CustomRules> {
        let compile = || self.resource.schema.openapi().and_then(CustomRules::of_schema);
        self.rules.get_or_init(compile).as_ref()
    }

    /// What the schema and the scale subresource say, rules aside. What is there twice comes last.
    fn check(&self, object: &Value, subresource: &str) -> Vec<FieldError> {
        let errors = validate_custom(self.resource.schema.root(), object, true);
        let (twice, mut errors): (Vec<FieldError>, _) =
            errors.into_iter().partition(|error| error.kind == ErrorKind::Duplicate);
        if subresource != "status" {
            errors.extend(replicas_error(object, &self.facts.scale_spec_path));
            errors.extend(selector_error(object, &self.facts.scale_selector_path));
        }
        errors.extend(replicas_error(object, &self.facts.scale_status_path));
        errors.extend(twice);
        errors
    }

    /// Runs the rules, unless the errors so far mean that they would make no sense.
    fn run_rules(&self, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let Some(rules) = self.rules() else { return };
        let blocking = |error: &FieldError| {
            matches!(
                error.kind,
                ErrorKind::NotSupported
                    | ErrorKind::Required
                    | ErrorKind::TooLong
                    | ErrorKind::TooMany
                    | ErrorKind::TypeInvalid
            )
        };
        match errors.iter().any(blocking) {
            true => errors.push(not_checked()),
            false => errors.extend(rules.validate(object, old).errors),
        }
    }
}

fn not_checked() -> FieldError {
    FieldError {
        kind: ErrorKind::Invalid,
        field: "<nil>".to_owned(),
        value: BadValue::null(),
        detail: "some validation rules were not checked because the object was invalid; correct the existing errors to \
                 complete validation"
            .to_owned(),
    }
}

/// What stands at a path such as `.spec.replicas`.
fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    object.at(path.trim_start_matches('.'))
}

fn scale_error(path: &str, value: BadValue, detail: String) -> Option<FieldError> {
    Some(FieldError { kind: ErrorKind::Invalid, field: path.to_owned(), value, detail })
}

fn accessor(path: &str, value: &Value, found: &str, wanted: &str) -> String {
    let shown = value.as_str().map_or_else(|| rules::field::json(value), str::to_owned);
    format!("{path} accessor error: {shown} is of the type {found}, expected {wanted}")
}

/// A number of replicas is a whole number of 31 bits.
fn replicas_error(object: &Value, path: &str) -> Option<FieldError> {
    let value = at(object, path).filter(|_| !path.is_empty())?;
    match value {
        Value::Int(n) if *n < 0 => {
            scale_error(path, (*n).into(), "should be a non-negative integer".to_owned())
        }
        Value::Int(n) if *n > i64::from(i32::MAX) => {
            scale_error(path, (*n).into(), format!("should be less than or equal to {}", i32::MAX))
        }
        Value::Int(_) => None,
        other => scale_error(path, 0_i64.into(), accessor(path, other, go_type(other), "int64")),
    }
}

/// A selector is a text.
fn selector_error(object: &Value, path: &str) -> Option<FieldError> {
    match at(object, path).filter(|_| !path.is_empty())? {
        Value::Str(_) => None,
        other => scale_error(path, "".into(), accessor(path, other, go_type(other), "string")),
    }
}

impl Strategy for Custom {
    fn generic(&self) -> &Generic {
        &self.generic
    }

    fn validate(&self, context: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = self.check(object, context.subresource);
        self.run_rules(object, None, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.check(new, context.subresource);
        if !errors.is_empty() {
            // Ratcheting: what was wrong before and did not change may stay (KEP-4008).
            let before = self.check(old, context.subresource);
            errors.retain(|error| !before.contains(error));
        }
        self.run_rules(new, Some(old), &mut errors);
        errors
    }

    fn warnings_on_update(&self, context: &Context<'_>, new: &Value, old: &Value) -> Vec<String> {
        let _ = context;
        let mut warnings = self.generic.warnings(new, Some(old));
        if let Some(rules) = self.rules().filter(|_| new != old) {
            warnings.extend(rules.validate(new, Some(old)).ratcheted.iter().map(ToString::to_string));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn replicas_are_numbers() {
        let error = |size: Value| {
            replicas_error(&value!({"spec": {"size": size}}), ".spec.size").map(|error| error.to_string())
        };
        assert_eq!(error(Value::Int(3)), None);
        for (size, words) in [
            (Value::Int(-1), ".spec.size: Invalid value: -1: should be a non-negative integer"),
            (
                Value::str("x"),
                ".spec.size: Invalid value: 0: .spec.size accessor error: x is of the type string, expected int64",
            ),
            (
                Value::Int(1 << 31),
                ".spec.size: Invalid value: 2147483648: should be less than or equal to 2147483647",
            ),
        ] {
            assert_eq!(error(size).as_deref(), Some(words));
        }
        assert_eq!(replicas_error(&value!({}), ".spec.size"), None);
    }
}
