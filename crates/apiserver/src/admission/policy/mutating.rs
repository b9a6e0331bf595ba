//! MutatingAdmissionPolicy: what bound policies change.

use std::sync::Arc;

use async_trait::async_trait;
use base::TaskScope;
use schema::Value;

use super::super::expressions::{
    BUDGET, CONDITIONS_BUDGET, Evaluation, Variables, bindings, namespace_value, with_authorizer,
};
use super::super::matching::{GROUP, Matched, is_policy};
use super::super::versioned::{replace_object, versioned};
use super::super::{Admission, Attributes, Operation};
use super::apply::{apply_configuration, json_patch};
use super::definition::{Binding, MUTATING, Mutation, Policies, Policy};
use super::params;
use super::validating::namespace_of;
use crate::authz::Authorizer;
use crate::registry::{Registry, Watched, meta};
use crate::status::{ApiError, ApiResult};

/// See the module.
pub struct MutatingAdmissionPolicy {
    policies: Watched<Policies>,
    authorizer: Arc<dyn Authorizer>,
}

/// One policy with a binding and a parameter that a request is for.
struct Invocation<'a> {
    policy: &'a Policy,
    binding: &'a Binding,
    matched: Matched,
    param: Value,
}

impl Invocation<'_> {
    /// Unique among all.
    fn key(&self) -> String {
        let (namespace, name) = (meta::namespace(&self.param), meta::name(&self.param));
        format!("{}/{}/{namespace}/{name}", self.policy.name, self.binding.name)
    }
}

/// A refusal: policy, binding, words.
type Refusal = (String, Option<String>, String);

impl MutatingAdmissionPolicy {
    /// Over the policies of `registry`.
    pub fn new(registry: &Arc<Registry>, authorizer: Arc<dyn Authorizer>, scope: &TaskScope) -> Self {
        let policies = Watched::new(
            registry.clone(),
            "mutating admission policies",
            (GROUP, &MUTATING[..]),
            scope,
            Policies::mutating,
        );
        Self { policies, authorizer }
    }

    /// What is to be run; misconfigured policies and bindings are refusals.
    async fn invocations<'p>(
        &self,
        policy: &'p Policy,
        attributes: &Attributes<'_>,
        registry: &Registry,
        refusals: &mut Vec<Refusal>,
    ) -> Vec<Invocation<'p>> {
        let mut refuse = |binding: Option<&Binding>, why: String| {
            if !policy.ignore_errors {
                let what = if binding.is_some() { "binding" } else { "policy" };
                let words = format!("failed to configure {what}: {why}");
                refusals.push((policy.name.clone(), binding.map(|b| b.name.clone()), words));
            }
        };
        let matched = match policy.constraints.matches(attributes, registry) {
            Ok(Some(matched)) => matched,
            Ok(None) => return Vec::new(),
            Err(error) => {
                refuse(None, error.message);
                return Vec::new();
            }
        };
        let resource = match params::resource(policy, registry) {
            Ok(resource) => resource,
            Err(why) => {
                refuse(None, why);
                return Vec::new();
            }
        };
        let mut all = Vec::new();
        for binding in &policy.bindings {
            match binding.constraints.as_ref().map(|c| c.matches(attributes, registry)) {
                None | Some(Ok(Some(_))) => {}
                Some(Ok(None)) => continue,
                Some(Err(error)) => {
                    refuse(Some(binding), error.message);
                    continue;
                }
            }
            match params::collect(resource.as_ref(), binding, attributes.namespace, registry).await {
                Ok(found) => all.extend(found.into_iter().map(|param| Invocation {
                    policy,
                    binding,
                    matched: matched.clone(),
                    param,
                })),
                Err(why) => refuse(Some(binding), why),
            }
        }
        all
    }

    /// Runs one invocation. The inner error is the policy's.
    async fn run(
        &self,
        invocation: &Invocation<'_>,
        attributes: &mut Attributes<'_>,
        registry: &Registry,
    ) -> ApiResult<Result<(), String>> {
        let policy = invocation.policy;
        let namespace = namespace_value(namespace_of(attributes, registry)?.as_deref());
        let before = attributes.object.clone();
        let mut first = true;
        for mutation in &policy.mutations {
            let seen =
                versioned(attributes, registry, &invocation.matched).await.map_err(ApiError::internal)?;
            let base = bindings(attributes, &seen)
                .with("namespaceObject", namespace.clone())
                .with("params", cel::Value::from_json(&invocation.param));
            let full = with_authorizer(base, attributes, &self.authorizer);
            let variables = Variables::new(policy.variables.clone(), full.clone());
            if std::mem::take(&mut first) {
                let evaluation = Evaluation::new(&full, Some(variables.clone()), CONDITIONS_BUDGET);
                match policy.conditions.hold(evaluation, policy.ignore_errors) {
                    Ok(true) => {}
                    Ok(false) => return Ok(Ok(())),
                    Err(why) => return Ok(Err(why)),
                }
                let key = invocation.key();
                if attributes.reinvocation.again && !attributes.reinvocation.policies.is_due(&key) {
                    return Ok(Ok(()));
                }
            }
            if seen.object.is_null() {
                continue;
            }
            let evaluation = Evaluation::new(&full, Some(variables), BUDGET);
            let table = registry.resources.load();
            let schema = table.get(&invocation.matched.resource).map(|s| s.resource.schema.clone());
            drop(table);
            let schema = schema.ok_or_else(ApiError::unknown_resource)?;
            match mutate(mutation, evaluation, &seen.object, schema.root()) {
                Ok(object) if object == seen.object => {}
                Ok(object) => {
                    replace_object(attributes, registry, &invocation.matched, &object).await?;
                }
                Err(why) => return Ok(Err(why)),
            }
        }
        if before != attributes.object {
            attributes.reinvocation.policies.require();
            attributes.reinvocation.wanted = true;
        }
        if policy.reinvoke {
            attributes.reinvocation.policies.called(&invocation.key());
        }
        Ok(Ok(()))
    }
}

fn mutate(
    mutation: &Mutation,
    mut evaluation: Evaluation<'_>,
    object: &Value,
    root: schema::Node<'_>,
) -> Result<Value, String> {
    let (Mutation::Apply(expression) | Mutation::JsonPatch(expression)) = mutation;
    let result = evaluation.run(&expression.source, &expression.program)??;
    match mutation {
        Mutation::Apply(_) => apply_configuration(object, &result, root),
        Mutation::JsonPatch(_) => json_patch(object, &result),
    }
}

/// All refusals as one error, worded by the first.
fn error_of(refusals: Vec<Refusal>, attributes: &Attributes<'_>) -> Option<ApiError> {
    let mut error: Option<ApiError> = None;
    for (policy, binding, why) in refusals {
        let message = match binding {
            Some(binding) => format!("policy '{policy}' with binding '{binding}' denied request: {why}"),
            None => format!("policy {} denied request: {why}", rules::quote(&policy)),
        };
        let so_far = error.unwrap_or_else(|| {
            let mut first = attributes.forbidden("");
            first.message.clone_from(&message);
            if !why.starts_with("failed to configure") {
                first.reason = "Invalid".into();
            }
            first
        });
        error = Some(so_far.with_cause("", message, ""));
    }
    error
}

#[async_trait]
impl Admission for MutatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "MutatingAdmissionPolicy"
    }

    fn handles(&self, _: Operation) -> bool {
        true
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let policies = self.policies.get();
        if policies.1.0.is_empty() || is_policy(attributes) {
            return Ok(());
        }
        let mut refusals = Vec::new();
        let mut invocations = Vec::new();
        for policy in &policies.1.0 {
            invocations.extend(self.invocations(policy, attributes, registry, &mut refusals).await);
        }
        let again = attributes.reinvocation.again;
        attributes.reinvocation.policies.begin(again, &attributes.object);
        for invocation in &invocations {
            if let Err(why) = self.run(invocation, attributes, registry).await?
                && !invocation.policy.ignore_errors
            {
                refusals.push((invocation.policy.name.clone(), Some(invocation.binding.name.clone()), why));
            }
        }
        attributes.reinvocation.policies.end(&attributes.object);
        error_of(refusals, attributes).map_or(Ok(()), Err)
    }
}
