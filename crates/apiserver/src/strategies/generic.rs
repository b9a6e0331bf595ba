//! The strategy of most kinds: facts for the registry, and the kind's rules.

use rules::kinds::{KindRules, Write, rules_of};
use rules::{Cursor, FieldError};
use schema::{Resource, Value};

use super::kinds::traits_of;
use super::{Context, Strategy, Traits};

/// Facts and rules, nothing more.
pub struct Generic {
    traits: Traits,
    rules: KindRules,
}

impl Generic {
    /// Of a resource in its stored version.
    pub fn of(resource: &Resource) -> Self {
        let rules = match resource.custom {
            true => KindRules::NONE,
            false => rules_of(&resource.group, &resource.plural),
        };
        Self { traits: traits_of(resource), rules }
    }
}

/// What rules are told of a write.
fn write_of<'a>(context: &Context<'a>) -> Write<'a> {
    Write {
        subresource: context.subresource,
        user: &context.user.name,
        uid: &context.user.uid,
        groups: &context.user.groups,
        now: context.now,
    }
}

impl Strategy for Generic {
    fn generic(&self) -> &Generic {
        self
    }
}

impl Generic {
    /// The same with other facts.
    pub fn with_traits(self, change: impl FnOnce(&mut Traits)) -> Self {
        let mut traits = self.traits;
        change(&mut traits);
        Self { traits, ..self }
    }

    /// As of [`Strategy`].
    pub fn traits(&self) -> &Traits {
        &self.traits
    }

    /// As of [`Strategy`].
    pub fn default_fields(&self, object: &mut Value) {
        (self.rules.defaults)(object);
    }

    /// As of [`Strategy`].
    pub fn prepare_for_create(&self, context: &Context<'_>, object: &mut Value) {
        (self.rules.prepare_create)(object, &write_of(context));
    }

    /// As of [`Strategy`].
    pub fn prepare_for_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        (self.rules.prepare_update)(new, old, &write_of(context));
    }

    /// As of [`Strategy`].
    pub fn validate(&self, context: &Context<'_>, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        (self.rules.validate)(&Cursor::root(object), &write_of(context), &mut errors);
        errors
    }

    /// As of [`Strategy`], for a new object or for a change.
    pub fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        (self.rules.warnings)(object, old)
    }

    /// As of [`Strategy`].
    pub fn validate_update(&self, context: &Context<'_>, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        (self.rules.validate_update)(&Cursor::root(new), old, &write_of(context), &mut errors);
        errors
    }
}
