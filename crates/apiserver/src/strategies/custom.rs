//! Custom resources: the definition's schema says it all.

use std::sync::Arc;

use rules::{BadValue, FieldError, validate_custom};
use schema::{Kind, Node, Resource, Value};

use super::{Context, Generic, Strategy};

/// See the module.
pub struct Custom {
    generic: Generic,
    resource: Arc<Resource>,
    /// The schema has CEL rules somewhere.
    has_rules: bool,
}

impl Custom {
    /// Of one version.
    pub fn new(resource: Arc<Resource>) -> Self {
        let has_rules = has_rules(resource.schema.root(), 0);
        Self { generic: Generic::of(&resource), has_rules, resource }
    }

    fn check(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = validate_custom(self.resource.schema.root(), object, true);
        if !errors.is_empty() && self.has_rules {
            errors.push(FieldError {
                kind: rules::ErrorKind::Invalid,
                field: "<nil>".to_owned(),
                value: BadValue::null(),
                detail: "some validation rules were not checked because the object was invalid; correct the existing \
                         errors to complete validation"
                    .to_owned(),
            });
        }
        errors
    }
}

/// Deepest nesting looked at; schemas nest no deeper.
const MAX_DEPTH: usize = 512;

fn has_rules(node: Node<'_>, depth: usize) -> bool {
    if depth > MAX_DEPTH || !node.validations().is_empty() {
        return depth <= MAX_DEPTH;
    }
    match node.kind() {
        Kind::Object(object) => object.fields().any(|f| has_rules(f.node(), depth + 1)),
        Kind::Map(child) | Kind::List(child) => has_rules(child, depth + 1),
        _ => false,
    }
}

impl Strategy for Custom {
    fn generic(&self) -> &Generic {
        &self.generic
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> Vec<FieldError> {
        self.check(object)
    }

    fn validate_update(&self, _: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let errors = self.check(new);
        if errors.is_empty() {
            return errors;
        }
        // Ratcheting: what was wrong before and did not change may stay (KEP-4008).
        let before = self.check(old);
        errors.into_iter().filter(|e| e.field == "<nil>" || !before.contains(e)).collect()
    }
}
