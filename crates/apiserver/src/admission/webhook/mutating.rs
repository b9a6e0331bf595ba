//! MutatingAdmissionWebhook: one after the other, each sees what those before it changed.

use std::sync::Arc;

use async_trait::async_trait;
use base::TaskScope;

use super::super::matching::{GROUP, is_configuration};
use super::super::versioned::{replace_object, versioned};
use super::super::watched::Watched;
use super::super::{Admission, Attributes, Operation};
use super::call::{Failure, call};
use super::hook::{Hook, Hooks};
use super::review;
use crate::authz::Authorizer;
use crate::registry::Registry;
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
        let hooks = Watched::new(registry.clone(), kinds, false, scope, Hooks::mutating);
        Self { hooks, client, authorizer }
    }

    /// Calls one webhook if the request is for it; true when it changed the object.
    async fn dispatch(
        &self,
        hook: &Hook,
        attributes: &mut Attributes<'_>,
        registry: &Registry,
    ) -> ApiResult<bool> {
        let Some(matched) = hook.matches(attributes, registry, &self.authorizer).await? else {
            return Ok(false);
        };
        if attributes.reinvocation.again && !attributes.reinvocation.webhooks.is_due(&hook.id) {
            return Ok(false);
        }
        let versioned = versioned(attributes, registry, &matched).await.map_err(ApiError::internal)?;
        let answer = match call(&self.client, hook, attributes, &versioned, true).await {
            Ok(answer) => answer,
            Err(failure) => {
                if hook.reinvoke {
                    attributes.reinvocation.webhooks.called(&hook.id);
                }
                return failure.into_error(hook).map_or(Ok(false), Err);
            }
        };
        attributes.warnings.extend(answer.warnings);
        let annotations = answer.audit_annotations.into_iter();
        attributes.audit_annotations.extend(annotations.map(|(k, v)| (format!("{}/{k}", hook.name), v)));
        if let Some(status) = &answer.denial {
            return Err(review::refusal(&hook.name, status));
        }
        let mut changed = false;
        if !answer.patch.items().is_empty()
            || !matches!(answer.patch, schema::Value::List(_) | schema::Value::Null)
        {
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
            replace_object(attributes, registry, &matched, &object).await?;
            changed = before != attributes.object;
        }
        if changed {
            attributes.reinvocation.webhooks.require();
            attributes.reinvocation.wanted = true;
        }
        if hook.reinvoke {
            attributes.reinvocation.webhooks.called(&hook.id);
        }
        Ok(changed)
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
        for hook in &hooks.1.0 {
            self.dispatch(hook, attributes, registry).await?;
        }
        attributes.reinvocation.webhooks.end(&attributes.object);
        Ok(())
    }
}
