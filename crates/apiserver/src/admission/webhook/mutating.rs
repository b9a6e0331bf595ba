//! MutatingAdmissionWebhook: one after the other, each sees what those before it changed.

use std::sync::Arc;

use async_trait::async_trait;
use base::TaskScope;
use schema::Value;

use super::super::matching::{GROUP, is_configuration};
use super::super::versioned::{Versioned, replace_object, versioned};
use super::super::{Admission, Attributes, Operation};
use super::call::{Failure, call};
use super::hook::{Hook, Hooks};
use super::review::{self, Answer};
use crate::authz::Authorizer;
use crate::registry::{Registry, Watched};
use crate::status::{ApiError, ApiResult};
use crate::webhook::WebhookClient;

/// See the module.
pub struct MutatingAdmissionWebhook {
    hooks: Watched<Hooks>,
    client: Arc<WebhookClient>,
    authorizer: Arc<dyn Authorizer>,
}

impl MutatingAdmissionWebhook {
    /// Over the MutatingWebhookConfigurations of `registry`.
    pub fn new(
        registry: &Arc<Registry>,
        client: Arc<WebhookClient>,
        authorizer: Arc<dyn Authorizer>,
        scope: &TaskScope,
    ) -> Self {
        let kinds = (GROUP, &["mutatingwebhookconfigurations"][..]);
        let hooks = Watched::new(registry.clone(), "mutating webhooks", kinds, scope, Hooks::mutating);
        Self { hooks, client, authorizer }
    }

    /// Calls one webhook if the request is for it.
    async fn dispatch(
        &self,
        (index, hook): (usize, &Hook),
        attributes: &mut Attributes<'_>,
        registry: &Registry,
    ) -> ApiResult<()> {
        let Some(matched) = hook.matches(attributes, registry, &self.authorizer).await? else {
            return Ok(());
        };
        let again = attributes.reinvocation.again;
        if again && !attributes.reinvocation.webhooks.is_due(&hook.id) {
            return Ok(());
        }
        let versioned = versioned(attributes, registry, &matched).await.map_err(ApiError::internal)?;
        let answer = call(&self.client, hook, attributes, &versioned, true).await;
        let place = format!("mutation.webhook.admission.k8s.io/round_{}_index_{index}", u8::from(again));
        let outcome = match answer {
            Ok(answer) => self.heed(hook, answer, versioned, attributes, registry).await,
            Err(failure) => {
                if failure.is_ignored(hook) {
                    attributes.audit_annotations.push((format!("failed-open.{place}"), hook.name.clone()));
                }
                failure.into_error(hook).map_or(Ok(false), Err)
            }
        };
        let changed = matches!(outcome, Ok(true));
        let told = schema::value!({
            "configuration": (hook.configuration.as_str()), "webhook": (hook.name.as_str()), "mutated": changed
        });
        attributes.audit_annotations.push((place, serde_json::to_string(&told).unwrap_or_default()));
        if changed {
            attributes.reinvocation.webhooks.require();
            attributes.reinvocation.wanted = true;
        }
        if hook.reinvoke {
            attributes.reinvocation.webhooks.called(&hook.id);
        }
        outcome.map(|_| ())
    }

    /// Does what a webhook's answer says; true when it changed the object.
    async fn heed(
        &self,
        hook: &Hook,
        answer: Answer,
        versioned: Versioned,
        attributes: &mut Attributes<'_>,
        registry: &Registry,
    ) -> ApiResult<bool> {
        attributes.warnings.extend(answer.warnings);
        let annotations = answer.audit_annotations.into_iter();
        attributes.audit_annotations.extend(annotations.map(|(k, v)| (format!("{}/{k}", hook.name), v)));
        if let Some(status) = &answer.denial {
            return Err(review::refusal(&hook.name, status));
        }
        if matches!(&answer.patch, Value::Null) || answer.patch.as_list().is_some_and(Vec::is_empty) {
            return Ok(false);
        }
        if versioned.object.is_null() {
            return Err(ApiError::internal(format!(
                "admission webhook {} attempted to modify the object, which is not supported for this operation",
                rules::quote(&hook.name)
            )));
        }
        let mut object = versioned.object;
        if let Err(error) = merge::json_patch(&mut object, &answer.patch) {
            return self.bad_patch(hook, error);
        }
        let before = attributes.object.clone();
        replace_object(attributes, registry, &versioned.matched, &object).await?;
        Ok(before != attributes.object)
    }

    fn bad_patch(&self, hook: &Hook, error: merge::JsonPatchError) -> ApiResult<bool> {
        match error {
            merge::JsonPatchError::Decode(words) => {
                let why = format!("received undecodable patch in webhook response: {words}");
                Failure::Calling(why).into_error(hook).map_or(Ok(false), Err)
            }
            other => Err(ApiError::internal(other)),
        }
    }
}

#[async_trait]
impl Admission for MutatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "MutatingAdmissionWebhook"
    }

    fn handles(&self, _: Operation) -> bool {
        true
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        let hooks = self.hooks.get();
        if hooks.1.0.is_empty() || is_configuration(attributes) {
            return Ok(());
        }
        let again = attributes.reinvocation.again;
        attributes.reinvocation.webhooks.begin(again, &attributes.object);
        for hook in hooks.1.0.iter().enumerate() {
            self.dispatch(hook, attributes, registry).await?;
        }
        attributes.reinvocation.webhooks.end(&attributes.object);
        Ok(())
    }
}
