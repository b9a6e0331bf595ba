//! Policies with their bindings, compiled.

use std::sync::Arc;

use cel::{Env, Type};
use rules::expressions::{Available, Composition, add_variables, admission_env, compile};
use schema::{GroupVersion, GroupVersionKind, SmolStr, Value};

use super::super::expressions::{Compiled, Conditions};
use super::super::matching::{Constraints, GROUP};
use crate::registry::{Registry, meta};
use crate::status::ApiResult;

/// An expression with its source.
#[derive(Debug)]
pub struct Expression {
    /// As written.
    pub source: String,
    /// Compiled, or why not.
    pub program: Compiled,
}

/// One of `validations`.
#[derive(Debug)]
pub struct Validation {
    /// Must be true.
    pub expression: Expression,
    /// Gives the message.
    pub message_expression: Option<Expression>,
    /// The message when that gives none.
    pub message: String,
    /// `metav1.StatusReason` of a refusal.
    pub reason: Option<String>,
}

/// One of `auditAnnotations`.
#[derive(Debug)]
pub struct Annotation {
    /// Without the policy's name.
    pub key: String,
    /// Gives the value.
    pub expression: Expression,
}

/// One of `mutations`.
#[derive(Debug)]
pub enum Mutation {
    /// `ApplyConfiguration`
    Apply(Expression),
    /// `JSONPatch`
    JsonPatch(Expression),
}

/// A policy of either sort.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// Which requests.
    pub constraints: Constraints,
    /// Errors are ignored.
    pub ignore_errors: bool,
    /// What its parameters are.
    pub param_kind: Option<GroupVersionKind>,
    /// `matchConditions`
    pub conditions: Conditions,
    /// `variables`, in order.
    pub variables: Arc<Vec<(SmolStr, Compiled)>>,
    /// Of a ValidatingAdmissionPolicy.
    pub validations: Vec<Validation>,
    /// Of a ValidatingAdmissionPolicy.
    pub annotations: Vec<Annotation>,
    /// Of a MutatingAdmissionPolicy.
    pub mutations: Vec<Mutation>,
    /// It wants to see what others change.
    pub reinvoke: bool,
    /// Never empty.
    pub bindings: Vec<Binding>,
}

/// A binding of a policy.
#[derive(Debug)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// Which of the policy's requests; `None`: all.
    pub constraints: Option<Constraints>,
    /// `paramRef`; null for none.
    pub param_ref: Value,
    /// `Deny`, `Warn`, `Audit`
    pub actions: Vec<SmolStr>,
}

impl Binding {
    fn from_value(binding: &Value) -> Self {
        let spec = &binding["spec"];
        let resources = &spec["matchResources"];
        Self {
            name: meta::name(binding).to_owned(),
            constraints: (!resources.is_null()).then(|| Constraints::from_value(resources, "resourceRules")),
            param_ref: spec["paramRef"].clone(),
            actions: spec.items_at("validationActions").iter().filter_map(Value::as_smol).cloned().collect(),
        }
    }
}

/// Compiles the expressions of one policy.
struct Compiler {
    composition: Composition,
    full: Env,
    without_authorizer: Env,
}

impl Compiler {
    fn expression(&self, env: &Env, value: &Value, field: &str, expected: &[Type]) -> Expression {
        let source = value.str_at(field).unwrap_or_default();
        let program = compile(&self.composition.env(env.clone()), source, expected);
        Expression { source: source.to_owned(), program }
    }

    fn validation(&self, validation: &Value) -> Validation {
        let text = |field| validation.str_at(field).filter(|text| !text.is_empty());
        let message =
            |_| self.expression(&self.without_authorizer, validation, "messageExpression", &[Type::String]);
        Validation {
            expression: self.expression(&self.full, validation, "expression", &[Type::Bool]),
            message_expression: text("messageExpression").map(message),
            message: text("message").unwrap_or_default().to_owned(),
            reason: text("reason").map(str::to_owned),
        }
    }

    fn annotation(&self, annotation: &Value) -> Annotation {
        let expected = [Type::String, Type::Null];
        Annotation {
            key: annotation.str_at("key").unwrap_or_default().to_owned(),
            expression: self.expression(&self.full, annotation, "valueExpression", &expected),
        }
    }

    fn mutation(&self, mutation: &Value) -> Mutation {
        let env = self.full.clone().patch_types();
        if mutation.str_at("patchType") == Some("JSONPatch") {
            return Mutation::JsonPatch(self.expression(&env, &mutation["jsonPatch"], "expression", &[]));
        }
        Mutation::Apply(self.expression(&env, &mutation["applyConfiguration"], "expression", &[]))
    }
}

impl Policy {
    fn from_value(policy: &Value, bindings: Vec<Binding>) -> Self {
        let spec = &policy["spec"];
        let param_kind = spec.get("paramKind").filter(|kind| !kind.is_null()).map(|kind| {
            let version = GroupVersion::parse(kind.str_at("apiVersion").unwrap_or_default());
            version.unwrap_or_else(|| GroupVersion::new("", "")).kind(kind.str_at("kind").unwrap_or_default())
        });
        let available = Available { params: param_kind.is_some(), authorizer: true };
        let full = admission_env(available);
        let without_authorizer = admission_env(Available { authorizer: false, ..available });
        let mut composition = Composition::new();
        let variables = add_variables(&mut composition, &full, policy);
        let compiler = Compiler { composition, full, without_authorizer };
        let conditions_env = compiler.composition.env(compiler.full.clone());
        Self {
            name: meta::name(policy).to_owned(),
            constraints: Constraints::from_value(&spec["matchConstraints"], "resourceRules"),
            ignore_errors: spec.str_at("failurePolicy") == Some("Ignore"),
            param_kind,
            conditions: Conditions::compile(spec.items_at("matchConditions"), &conditions_env),
            variables: Arc::new(variables),
            validations: spec.items_at("validations").iter().map(|v| compiler.validation(v)).collect(),
            annotations: spec.items_at("auditAnnotations").iter().map(|a| compiler.annotation(a)).collect(),
            mutations: spec.items_at("mutations").iter().map(|m| compiler.mutation(m)).collect(),
            reinvoke: spec.str_at("reinvocationPolicy") == Some("IfNeeded"),
            bindings,
        }
    }
}

/// All policies of a sort that are bound, by name.
#[derive(Debug, Default)]
pub struct Policies(pub Vec<Policy>);

/// Resources of ValidatingAdmissionPolicies and their bindings.
pub const VALIDATING: [&str; 2] = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
/// Resources of MutatingAdmissionPolicies and their bindings.
pub const MUTATING: [&str; 2] = ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"];

impl Policies {
    fn read(registry: &Registry, [policies, bindings]: [&str; 2]) -> ApiResult<Self> {
        let mut bindings = registry.find_all(GROUP, bindings, None)?;
        bindings.sort_by(|a, b| meta::name(a).cmp(meta::name(b)));
        let mut policies = registry.find_all(GROUP, policies, None)?;
        policies.sort_by(|a, b| meta::name(a).cmp(meta::name(b)));
        let bound = policies.iter().filter_map(|policy| {
            let own = bindings.iter().filter(|b| b.str_at("spec.policyName") == Some(meta::name(policy)));
            let own: Vec<Binding> = own.map(|b| Binding::from_value(b)).collect();
            (!own.is_empty()).then(|| Policy::from_value(policy, own))
        });
        Ok(Self(bound.collect()))
    }

    /// The validating ones.
    pub fn validating(registry: &Registry) -> ApiResult<Self> {
        Self::read(registry, VALIDATING)
    }

    /// The mutating ones.
    pub fn mutating(registry: &Registry) -> ApiResult<Self> {
        Self::read(registry, MUTATING)
    }
}
