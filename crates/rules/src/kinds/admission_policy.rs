//! Admission policies and their bindings. Whether expressions compile is checked elsewhere.

use cel::{Env, Type};
use schema::Value;

use super::webhook::{validate_conditions, validate_expression, validate_rule};
use super::{KindRules, Write};
use crate::Cursor;
use crate::expressions::{Available, Composition, admission_env, compile};
use crate::field::Errors;
use crate::label_selector::validate_label_selector;
use crate::names::{c_identifier, dns1035_label, dns1123_subdomain, path_segment, qualified_name};

const MAX_AUDIT_ANNOTATIONS: usize = 20;
/// Longest expression of an audit annotation, in bytes.
const MAX_AUDIT_EXPRESSION: usize = 5 * 1024;
pub(super) const VALIDATING: KindRules = KindRules {
    validate: |policy, _, out| validate_validating(policy, out),
    validate_update: |new, _: &Value, write: &Write<'_>, out| {
        if write.subresource.is_empty() {
            validate_validating(new, out);
        }
    },
    ..KindRules::NONE
};

pub(super) const MUTATING: KindRules = KindRules {
    validate: |policy, _, out| validate_mutating(policy, out),
    validate_update: |new, _: &Value, _: &Write<'_>, out| validate_mutating(new, out),
    ..KindRules::NONE
};

/// The environments of a policy's expressions.
struct Environments {
    variables: Composition,
    base: Env,
    without_authorizer: Env,
}

impl Environments {
    fn full(&self) -> Env {
        self.variables.env(self.base.clone())
    }

    fn for_messages(&self) -> Env {
        self.variables.env(self.without_authorizer.clone())
    }
}

/// What policies of both sorts have; the environments of their other expressions.
fn validate_common(spec: &Cursor<'_>, out: &mut Errors) -> Environments {
    let policy = spec.field("failurePolicy");
    match policy.is_set() {
        true => policy.among(out, &["Fail", "Ignore"]),
        false => policy.required(out, ""),
    }
    let parameters = spec.field("paramKind");
    if parameters.is_set() {
        validate_parameter_kind(&parameters, out);
    }
    let constraints = spec.field("matchConstraints");
    if constraints.is_set() {
        validate_match_resources(&constraints, out);
        if constraints.field("resourceRules").is_empty() {
            constraints.field("resourceRules").required(out, "");
        }
    } else {
        constraints.required(out, "");
    }
    let available = Available { params: parameters.is_set(), authorizer: true };
    validate_conditions(&spec.field("matchConditions"), available, out);
    let mut environments = Environments {
        variables: Composition::new(),
        base: admission_env(available),
        without_authorizer: admission_env(Available { authorizer: false, ..available }),
    };
    for variable in spec.field("variables").items() {
        environments.variables.declare();
        let (name, expression) = (variable.field("name"), variable.field("expression"));
        if name.text().trim().is_empty() {
            name.required(out, "name is not specified");
        } else if !c_identifier(name.text()).is_empty() || cel::is_reserved(name.text()) {
            name.invalid(out, "must be a valid CEL identifier");
        }
        if expression.text().trim().is_empty() {
            expression.required(out, "expression is not specified");
            continue;
        }
        let base = environments.base.clone();
        if let Err(why) = environments.variables.add(base, name.text(), expression.text()) {
            expression.invalid(out, why);
        }
    }
    environments
}

fn validate_validating(policy: &Cursor<'_>, out: &mut Errors) {
    const NEITHER: &str = "validations or auditAnnotations must contain at least one item";
    let spec = policy.field("spec");
    let environments = validate_common(&spec, out);
    let (validations, annotations) = (spec.field("validations"), spec.field("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        validations.required(out, NEITHER);
        return annotations.required(out, NEITHER);
    }
    validations.items().for_each(|validation| validate_validation(&validation, &environments, out));
    if annotations.len() > MAX_AUDIT_ANNOTATIONS {
        annotations.invalid(out, format!("must not have more than {MAX_AUDIT_ANNOTATIONS} auditAnnotations"));
    }
    let name = policy.value.str_at("metadata.name").unwrap_or("");
    for (i, annotation) in annotations.items().enumerate() {
        let (key, expression) = (annotation.field("key"), annotation.field("valueExpression"));
        let whole = if name.is_empty() { key.text().to_owned() } else { format!("{name}/{}", key.text()) };
        qualified_name(&whole).into_iter().for_each(|m| key.invalid_as(out, whole.as_str(), m));
        let length = expression.text().trim().len();
        if length == 0 {
            expression.required(out, "valueExpression is not specified");
        } else if length > MAX_AUDIT_EXPRESSION {
            expression.required(out, format!("must not exceed {MAX_AUDIT_EXPRESSION} bytes in length"));
        } else {
            validate_expression(&expression, &environments.full(), &[Type::String, Type::Null], out);
        }
        if annotations.value.items()[..i].iter().any(|other| other["key"] == *key.value) {
            key.duplicate(out);
        }
    }
}

fn validate_validation(c: &Cursor<'_>, environments: &Environments, out: &mut Errors) {
    if c.text_of("expression").trim().is_empty() {
        c.field("expression").required(out, "expression is not specified");
    } else {
        validate_expression(&c.field("expression"), &environments.full(), &[Type::Bool], out);
    }
    let (message, expression) = (c.field("message"), c.field("messageExpression"));
    if !expression.text().is_empty() && expression.text().trim().is_empty() {
        expression.invalid(out, "must be non-empty if specified");
    } else if !expression.text().is_empty() {
        validate_expression(&expression, &environments.for_messages(), &[Type::String], out);
    }
    if !message.text().is_empty() && message.text().trim().is_empty() {
        message.invalid(out, "message must be non-empty if specified");
    } else if message.text().trim().contains(['\n', '\r']) {
        message.invalid(out, "message must not contain line breaks");
    }
    if c.has("reason") {
        c.field("reason").among(out, &["Forbidden", "Invalid", "RequestEntityTooLarge"]);
    }
}

fn validate_mutating(policy: &Cursor<'_>, out: &mut Errors) {
    let spec = policy.field("spec");
    let environments = validate_common(&spec, out);
    let mutations = spec.field("mutations");
    if mutations.is_empty() {
        mutations.required(out, "mutations must contain at least one item");
    }
    for mutation in mutations.items() {
        let kind = mutation.field("patchType");
        let (patch, apply) = (mutation.field("jsonPatch"), mutation.field("applyConfiguration"));
        let (own, other) = match kind.text() {
            "ApplyConfiguration" => (&apply, &patch),
            "JSONPatch" => (&patch, &apply),
            "" => {
                kind.required(out, "");
                continue;
            }
            _ => {
                kind.among(out, &["ApplyConfiguration", "JSONPatch"]);
                continue;
            }
        };
        if !own.is_set() {
            own.required(out, format!("must be specified when patchType is {}", kind.text()));
        } else if own.text_of("expression").trim().is_empty() {
            own.field("expression").required(out, "expression is not specified");
        } else {
            validate_mutation(&own.field("expression"), kind.text() == "JSONPatch", &environments, out);
        }
        if other.is_set() {
            other.invalid(out, format!("must not be specified when patchType is {}", kind.text()));
        }
    }
    spec.field("reinvocationPolicy").one_of(out, &["IfNeeded", "Never"]);
}

/// The expression of a mutation: an `Object`, or a list of `JSONPatch`.
fn validate_mutation(c: &Cursor<'_>, patch: bool, environments: &Environments, out: &mut Errors) {
    let env = environments.full().patch_types();
    let (expected, name) = if patch { ("list(JSONPatch)", "JSONPatch") } else { ("Object", "Object") };
    match compile(&env, c.text(), &[]) {
        Err(why) => c.invalid(out, why),
        Ok(program) => {
            let found = program.result_type().to_string();
            let fits = found == expected || (patch && found == "list(dyn)") || program.result_type().is_dyn();
            if !fits {
                c.invalid(out, format!("must evaluate to {name} but got {found}"));
            }
        }
    }
}

fn validate_parameter_kind(c: &Cursor<'_>, out: &mut Errors) {
    let (version, kind) = (c.field("apiVersion"), c.field("kind"));
    let text = version.text();
    match text.matches('/').count() {
        _ if text.is_empty() => version.required(out, ""),
        0 | 1 => {
            let (group, number) = text.split_once('/').unwrap_or(("", text));
            let messages = if group.is_empty() { Vec::new() } else { dns1123_subdomain(group) };
            if !messages.is_empty() {
                version.invalid_as(out, group, messages.join(","));
            }
            let messages = dns1035_label(number);
            if number.is_empty() {
                version.invalid(out, "version must be specified");
            } else if !messages.is_empty() {
                version.invalid_as(out, number, messages.join(","));
            }
        }
        _ => version.invalid(out, format!("unexpected GroupVersion string: {text}")),
    }
    if kind.text().is_empty() {
        return kind.required(out, "");
    }
    let messages = dns1035_label(&kind.text().to_lowercase());
    if !messages.is_empty() {
        let words = format!("may have mixed case, but should otherwise match: {}", messages.join(","));
        kind.invalid(out, words);
    }
}

fn validate_match_resources(c: &Cursor<'_>, out: &mut Errors) {
    let policy = c.field("matchPolicy");
    match policy.is_set() {
        true => policy.among(out, &["Equivalent", "Exact"]),
        false => policy.required(out, ""),
    }
    for name in ["namespaceSelector", "objectSelector"] {
        match c.has(name) {
            true => validate_label_selector(&c.field(name), out),
            false => c.field(name).required(out, ""),
        }
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in c.field(list).items() {
            let names = rule.field("resourceNames");
            for (i, name) in names.items().enumerate() {
                name.check(out, path_segment);
                if names.value.items()[..i].contains(name.value) {
                    name.duplicate(out);
                }
            }
            validate_rule(&rule, out);
        }
    }
}

pub(super) const VALIDATING_BINDINGS: KindRules = KindRules {
    validate: |binding, _, out| validate_binding(binding, true, out),
    validate_update: |new, _: &Value, _: &Write<'_>, out| validate_binding(new, true, out),
    ..KindRules::NONE
};

pub(super) const MUTATING_BINDINGS: KindRules = KindRules {
    validate: |binding, _, out| validate_binding(binding, false, out),
    validate_update: |new, _: &Value, _: &Write<'_>, out| validate_binding(new, false, out),
    ..KindRules::NONE
};

fn validate_binding(binding: &Cursor<'_>, actions: bool, out: &mut Errors) {
    let spec = binding.field("spec");
    spec.field("policyName").required_name(out, dns1123_subdomain);
    let parameters = spec.field("paramRef");
    if parameters.is_set() {
        validate_parameter_ref(&parameters, out);
    }
    let resources = spec.field("matchResources");
    if resources.is_set() {
        validate_match_resources(&resources, out);
    }
    if actions {
        validate_actions(&spec.field("validationActions"), out);
    }
}

fn validate_parameter_ref(c: &Cursor<'_>, out: &mut Errors) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (c.field("name"), c.field("selector"));
    let named = !name.text().is_empty();
    if named {
        name.check(out, path_segment);
        if selector.is_set() {
            name.forbidden(out, EXCLUSIVE);
        }
    }
    if selector.is_set() {
        validate_label_selector(&selector, out);
        if named {
            selector.forbidden(out, EXCLUSIVE);
        }
    }
    if !named && !selector.is_set() {
        c.required(out, "one of name or selector must be specified");
    }
    let missing = c.field("parameterNotFoundAction");
    match missing.text().is_empty() {
        true => missing.required(out, ""),
        false => missing.among(out, &["Allow", "Deny"]),
    }
}

fn validate_actions(c: &Cursor<'_>, out: &mut Errors) {
    for (i, action) in c.items().enumerate() {
        action.among(out, &["Audit", "Deny", "Warn"]);
        if c.value.items()[..i].contains(action.value) {
            action.duplicate(out);
        }
    }
    let has = |text: &str| c.value.items().iter().any(|a| a.as_str() == Some(text));
    if has("Deny") && has("Warn") {
        c.invalid(
            out,
            "must not contain both Deny and Warn (repeating the same validation failure information in the API \
             response and headers serves no purpose)",
        );
    }
    if c.is_empty() {
        c.required(out, "at least one validation action is required");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn actions() {
        for (actions, errors) in [
            (value!(["Deny", "Audit"]), "[]"),
            (value!([]), ": Required value: at least one validation action is required"),
            (value!(["Audit", "Audit"]), "[1]: Duplicate value: \"Audit\""),
        ] {
            let mut out = Errors::new();
            validate_actions(&Cursor::root(&actions), &mut out);
            assert_eq!(crate::aggregate(&out), errors);
        }
    }
}
