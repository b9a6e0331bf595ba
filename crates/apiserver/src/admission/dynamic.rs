//! Admission that users configure: webhooks and policies.

use std::sync::Arc;

use base::TaskScope;

use super::Admission;
use super::policy::{MutatingAdmissionPolicy, ValidatingAdmissionPolicy};
use super::webhook::{MutatingAdmissionWebhook, ValidatingAdmissionWebhook};
use crate::authz::Authorizer;
use crate::registry::Registry;
use crate::webhook::WebhookClient;

/// What plugins for webhooks and policies are made of.
pub(crate) struct Dynamic<'a> {
    /// Where their configurations are.
    pub registry: &'a Arc<Registry>,
    /// Calls webhooks.
    pub webhooks: &'a Arc<WebhookClient>,
    /// Answers expressions.
    pub authorizer: &'a Arc<dyn Authorizer>,
    /// Owner of the tasks that notice changes.
    pub scope: &'a TaskScope,
}

impl Dynamic<'_> {
    /// The plugins, in upstream's order: they come after all others but ResourceQuota.
    pub fn plugins(&self) -> Vec<Arc<dyn Admission>> {
        let Self { registry, webhooks, authorizer, scope } = self;
        vec![
            Arc::new(MutatingAdmissionPolicy::new(registry, (*authorizer).clone(), scope)),
            Arc::new(MutatingAdmissionWebhook::new(
                registry,
                (*webhooks).clone(),
                (*authorizer).clone(),
                scope,
            )),
            Arc::new(ValidatingAdmissionPolicy::new(registry, (*authorizer).clone(), scope)),
            Arc::new(ValidatingAdmissionWebhook::new(
                registry,
                (*webhooks).clone(),
                (*authorizer).clone(),
                scope,
            )),
        ]
    }
}
