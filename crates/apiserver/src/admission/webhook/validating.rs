//! ValidatingAdmissionWebhook: all at once.

use std::sync::Arc;

use async_trait::async_trait;
use base::TaskScope;
use futures::future::join_all;

use super::super::matching::{GROUP, is_configuration};
use super::super::versioned::{Versioned, versioned};
use super::super::{Admission, Attributes, Operation};
use super::call::call;
use super::hook::{Hook, Hooks};
use super::review;
use crate::authz::Authorizer;
use crate::registry::{Registry, Watched};
use crate::status::{ApiError, ApiResult};
use crate::webhook::WebhookClient;

/// See the module.
pub struct ValidatingAdmissionWebhook {
    hooks: Watched<Hooks>,
    client: Arc<WebhookClient>,
    authorizer: Arc<dyn Authorizer>,
}

impl ValidatingAdmissionWebhook {
    /// Over the ValidatingWebhookConfigurations of `registry`.
    pub fn new(
        registry: &Arc<Registry>,
        client: Arc<WebhookClient>,
        authorizer: Arc<dyn Authorizer>,
        scope: &TaskScope,
    ) -> Self {
        let kinds = (GROUP, &["validatingwebhookconfigurations"][..]);
        let hooks = Watched::new(registry.clone(), "validating webhooks", kinds, scope, Hooks::validating);
        Self { hooks, client, authorizer }
    }
}

#[async_trait]
impl Admission for ValidatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, _: Operation) -> bool {
        true
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let hooks = self.hooks.get();
        if hooks.1.0.is_empty() || is_configuration(attributes) {
            return Ok(());
        }
        let mut relevant: Vec<(&Hook, usize)> = Vec::new();
        let mut versions: Vec<Versioned> = Vec::new();
        for hook in &hooks.1.0 {
            let Some(matched) = hook.matches(attributes, registry, &self.authorizer).await? else { continue };
            let known = versions.iter().position(|v| v.matched == matched);
            let at = match known {
                Some(at) => at,
                None => {
                    versions
                        .push(versioned(attributes, registry, &matched).await.map_err(ApiError::internal)?);
                    versions.len() - 1
                }
            };
            relevant.push((hook, at));
        }
        let seen: &Attributes<'_> = attributes;
        let mut calls = Vec::with_capacity(relevant.len());
        for (hook, at) in &relevant {
            calls.push(call(&self.client, hook, seen, &versions[*at], false));
        }
        let answers = join_all(calls).await;
        let mut refused = None;
        for (index, ((hook, _), answer)) in relevant.iter().zip(answers).enumerate() {
            let error = match answer {
                Ok(answer) => {
                    attributes.warnings.extend(answer.warnings);
                    let annotations = answer.audit_annotations.into_iter();
                    let named = annotations.map(|(k, v)| (format!("{}/{k}", hook.name), v));
                    attributes.audit_annotations.extend(named);
                    answer.denial.map(|status| review::refusal(&hook.name, &status))
                }
                Err(failure) => {
                    if failure.is_ignored(hook) {
                        let place =
                            format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                        attributes.audit_annotations.push((place, hook.name.clone()));
                    }
                    failure.into_error(hook)
                }
            };
            if refused.is_none() {
                refused = error;
            }
        }
        refused.map_or(Ok(()), Err)
    }
}
