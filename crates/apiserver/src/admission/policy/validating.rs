//! ValidatingAdmissionPolicy: what bound policies refuse, warn of or note for audit.

use std::sync::Arc;

use async_trait::async_trait;
use base::TaskScope;
use schema::{SmolStr, Value, value};

use super::super::expressions::{bindings, namespace_value, with_authorizer};
use super::super::matching::{GROUP, is_policy};
use super::super::versioned::versioned;
use super::super::{Admission, Attributes, Operation};
use super::definition::{Binding, Policies, Policy, VALIDATING};
use super::evaluate::{Denial, Judgement, judge};
use super::params;
use crate::authz::Authorizer;
use crate::registry::{Registry, Served, Watched};
use crate::status::{ApiError, ApiResult};

/// Longest value of an audit annotation, in bytes.
const MAX_ANNOTATION: usize = 10 * 1024;

/// See the module.
pub struct ValidatingAdmissionPolicy {
    policies: Watched<Policies>,
    authorizer: Arc<dyn Authorizer>,
}

/// A refusal and whose it is.
struct Refusal {
    policy: String,
    binding: Option<String>,
    denial: Denial,
}

impl ValidatingAdmissionPolicy {
    /// Over the policies of `registry`.
    pub fn new(registry: &Arc<Registry>, authorizer: Arc<dyn Authorizer>, scope: &TaskScope) -> Self {
        let policies = Watched::new(
            registry.clone(),
            "validating admission policies",
            (GROUP, &VALIDATING[..]),
            scope,
            Policies::validating,
        );
        Self { policies, authorizer }
    }

    /// Adds what a policy refuses. The error ends the request, whatever policies say.
    async fn check(
        &self,
        policy: &Policy,
        attributes: &mut Attributes<'_>,
        registry: &Registry,
        refusals: &mut Vec<Refusal>,
    ) -> ApiResult<()> {
        let misconfigured = |why: String, binding: Option<&Binding>| {
            let what = if binding.is_some() { "binding" } else { "policy" };
            (!policy.ignore_errors).then(|| Refusal {
                policy: policy.name.clone(),
                binding: binding.map(|b| b.name.clone()),
                denial: Denial::of_error(format!("failed to configure {what}: {why}")),
            })
        };
        let matched = match policy.constraints.matches(attributes, registry) {
            Ok(Some(matched)) => matched,
            Ok(None) => return Ok(()),
            Err(error) => {
                refusals.extend(misconfigured(error.message, None));
                return Ok(());
            }
        };
        let resource = match params::resource(policy, registry) {
            Ok(resource) => resource,
            Err(why) => {
                refusals.extend(misconfigured(why, None));
                return Ok(());
            }
        };
        let versioned = match versioned(attributes, registry, &matched).await {
            Ok(versioned) => versioned,
            Err(error) => {
                let why = format!("failed to convert object version: {}", error.message);
                refusals.extend(misconfigured(why, None));
                return Ok(());
            }
        };
        let base = bindings(attributes, &versioned);
        let mut annotations = Vec::new();
        for binding in &policy.bindings {
            let judged = self.judge_binding(policy, binding, resource.as_ref(), &base, attributes, registry);
            match judged.await? {
                Ok(judgements) => {
                    for judgement in judgements {
                        act(policy, binding, judgement, attributes, refusals, &mut annotations);
                    }
                }
                Err(why) => refusals.extend(misconfigured(why, Some(binding))),
            }
        }
        publish(policy, annotations, attributes);
        Ok(())
    }

    /// What the policy says with each parameter of a binding. The inner error is a misconfigured binding's.
    async fn judge_binding(
        &self,
        policy: &Policy,
        binding: &Binding,
        resource: Option<&Arc<Served>>,
        base: &cel::Bindings,
        attributes: &Attributes<'_>,
        registry: &Registry,
    ) -> ApiResult<Result<Vec<Judgement>, String>> {
        if let Some(constraints) = &binding.constraints {
            match constraints.matches(attributes, registry) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Ok(Vec::new())),
                Err(error) => return Ok(Err(error.message)),
            }
        }
        let found = match params::collect(resource, binding, attributes.namespace, registry).await {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        let namespace = namespace_of(attributes, registry)?;
        let with_namespace = base.clone().with("namespaceObject", namespace_value(namespace.as_deref()));
        Ok(Ok(found
            .iter()
            .map(|param| {
                let plain = with_namespace.clone().with("params", cel::Value::from_json(param));
                let full = with_authorizer(plain.clone(), attributes, &self.authorizer);
                judge(policy, &plain, &full)
            })
            .collect()))
    }
}

/// The namespace of the request; none at cluster scope and for a namespace itself.
pub fn namespace_of(attributes: &Attributes<'_>, registry: &Registry) -> ApiResult<Option<Arc<Value>>> {
    let itself = attributes.kind.kind == "Namespace" && attributes.kind.group.is_empty();
    if attributes.namespace.is_empty() || itself {
        return Ok(None);
    }
    registry.require("", "namespaces", "", attributes.namespace).map(Some)
}

fn act(
    policy: &Policy,
    binding: &Binding,
    judgement: Judgement,
    attributes: &mut Attributes<'_>,
    refusals: &mut Vec<Refusal>,
    annotations: &mut Vec<(String, Vec<String>)>,
) {
    let refusal =
        |denial| Refusal { policy: policy.name.clone(), binding: Some(binding.name.clone()), denial };
    for denial in judgement.denials {
        for action in &binding.actions {
            match action.as_str() {
                "Deny" => refusals.push(refusal(denial.clone())),
                "Warn" => attributes.warnings.push(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                    policy.name, binding.name, denial.message
                )),
                _ => note_failure(policy, binding, &denial, attributes),
            }
        }
    }
    for (key, value) in judgement.annotations {
        let value: String = cut(value);
        match annotations.iter_mut().find(|(k, _)| *k == key) {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => annotations.push((key, vec![value])),
        }
    }
    refusals.extend(judgement.errors.into_iter().map(|why| refusal(Denial::of_error(why))));
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_ANNOTATION {
        text.truncate(text.floor_char_boundary(MAX_ANNOTATION));
    }
    text
}

/// The audit annotation of a failed validation.
fn note_failure(policy: &Policy, binding: &Binding, denial: &Denial, attributes: &mut Attributes<'_>) {
    let failure = value!([{
        "message": (denial.message.as_str()), "policy": (policy.name.as_str()), "binding": (binding.name.as_str()),
        "expressionIndex": (i64::try_from(denial.index).unwrap_or(i64::MAX)),
        "validationActions": (binding.actions.iter().map(SmolStr::as_str).collect::<Vec<_>>())
    }]);
    let text = serde_json::to_string(&failure).unwrap_or_default();
    attributes
        .audit_annotations
        .push(("validation.policy.admission.k8s.io/validation_failure".to_owned(), text));
}

fn publish(policy: &Policy, annotations: Vec<(String, Vec<String>)>, attributes: &mut Attributes<'_>) {
    let named = annotations.into_iter().map(|(k, v)| (format!("{}/{k}", policy.name), v.join(", ")));
    attributes.audit_annotations.extend(named);
}

/// The first refusal as the client's error.
fn error_of(refusal: &Refusal, attributes: &Attributes<'_>) -> ApiError {
    let binding = refusal.binding.as_ref().map(|b| format!(" with binding '{b}'")).unwrap_or_default();
    let message = format!(
        "ValidatingAdmissionPolicy '{}'{binding} denied request: {}",
        refusal.policy, refusal.denial.message
    );
    let mut error = attributes.forbidden(&message).with_cause("", message, "");
    let (reason, code) = match refusal.denial.reason.as_str() {
        "" | "Invalid" => ("Invalid", 422),
        "Unauthorized" => ("Unauthorized", 401),
        "Forbidden" => ("Forbidden", 403),
        "RequestEntityTooLarge" => ("RequestEntityTooLarge", 413),
        other => (other, 422),
    };
    error.reason = reason.into();
    error.code = code;
    error
}

#[async_trait]
impl Admission for ValidatingAdmissionPolicy {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, _: Operation) -> bool {
        true
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let policies = self.policies.get();
        if policies.1.0.is_empty() || is_policy(attributes) {
            return Ok(());
        }
        let mut refusals = Vec::new();
        for policy in &policies.1.0 {
            self.check(policy, attributes, registry, &mut refusals).await?;
        }
        match refusals.first() {
            Some(refusal) => Err(error_of(refusal, attributes)),
            None => Ok(()),
        }
    }
}
