//! Configured webhooks, and which of them a request is for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rules::expressions::{Available, admission_env};
use schema::Value;

use super::super::Attributes;
use super::super::expressions::{CONDITIONS_BUDGET, Conditions, Evaluation, bindings, with_authorizer};
use super::super::matching::{Constraints, GROUP, Matched};
use super::super::versioned::versioned;
use crate::authz::Authorizer;
use crate::registry::{Registry, meta};
use crate::status::{ApiError, ApiResult};
use crate::webhook::Target;

/// How long a webhook that does not say is waited for.
const DEFAULT_TIMEOUT_S: u64 = 10;

/// One webhook of a configuration.
#[derive(Debug)]
pub struct Hook {
    /// Its name in messages.
    pub name: String,
    /// Unique among all: configuration, name, and a number for names that are there twice.
    pub id: String,
    /// The configuration's name.
    pub configuration: String,
    /// Where it is; an error is what every call comes to.
    pub target: Result<Target, String>,
    /// `AdmissionReview` version that it is sent.
    pub review_version: Option<&'static str>,
    /// How long it is waited for.
    pub timeout: Duration,
    /// Failures to call it are ignored.
    pub ignore_failures: bool,
    /// It may be called in a dry run.
    pub quiet: bool,
    /// It wants to see what others change after it.
    pub reinvoke: bool,
    constraints: Constraints,
    conditions: Conditions,
}

impl Hook {
    fn from_value(configuration: &str, number: usize, hook: &Value) -> Self {
        let text = |field| hook.str_at(field).unwrap_or_default();
        let versions = hook.items_at("admissionReviewVersions");
        let review_version = versions.iter().find_map(|version| match version.as_str() {
            Some("v1") => Some("v1"),
            Some("v1beta1") => Some("v1beta1"),
            _ => None,
        });
        let seconds = hook.int_at("timeoutSeconds").and_then(|s| u64::try_from(s).ok());
        let env = admission_env(Available { params: false, authorizer: true });
        Self {
            name: text("name").to_owned(),
            id: format!("{configuration}/{}/{number}", text("name")),
            configuration: configuration.to_owned(),
            target: Target::from_value(&hook["clientConfig"]),
            review_version,
            timeout: Duration::from_secs(seconds.unwrap_or(DEFAULT_TIMEOUT_S).max(1)),
            ignore_failures: text("failurePolicy") == "Ignore",
            quiet: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            reinvoke: text("reinvocationPolicy") == "IfNeeded",
            constraints: Constraints::from_value(hook, "rules"),
            conditions: Conditions::compile(hook.items_at("matchConditions"), &env),
        }
    }

    /// How a request matches this webhook; `None`: it is not for it.
    pub async fn matches(
        &self,
        attributes: &Attributes<'_>,
        registry: &Registry,
        authorizer: &Arc<dyn Authorizer>,
    ) -> ApiResult<Option<Matched>> {
        let Some(matched) = self.constraints.matches(attributes, registry)? else { return Ok(None) };
        if self.conditions.is_empty() {
            return Ok(Some(matched));
        }
        let versioned = versioned(attributes, registry, &matched).await?;
        let bindings = with_authorizer(bindings(attributes, &versioned), attributes, authorizer);
        let evaluation = Evaluation::new(&bindings, None, CONDITIONS_BUDGET);
        match self.conditions.hold(evaluation, self.ignore_failures) {
            Ok(holds) => Ok(holds.then_some(matched)),
            Err(why) => Err(ApiError::forbidden(attributes.group_resource(), attributes.name, why)),
        }
    }
}

/// All webhooks of a sort, by the names of their configurations.
#[derive(Debug, Default)]
pub struct Hooks(pub Vec<Hook>);

impl Hooks {
    fn read(registry: &Registry, plural: &str) -> ApiResult<Self> {
        let mut configurations = registry.find_all(GROUP, plural, None)?;
        configurations.sort_by(|a, b| meta::name(a).cmp(meta::name(b)));
        let mut all = Vec::new();
        for configuration in &configurations {
            let mut seen: HashMap<String, usize> = HashMap::new();
            for hook in configuration.items_at("webhooks") {
                let name = hook.str_at("name").unwrap_or_default().to_owned();
                let number = seen.entry(name).or_default();
                all.push(Hook::from_value(meta::name(configuration), *number, hook));
                *number += 1;
            }
        }
        Ok(Self(all))
    }

    /// Those of MutatingWebhookConfigurations.
    pub fn mutating(registry: &Registry) -> ApiResult<Self> {
        Self::read(registry, "mutatingwebhookconfigurations")
    }

    /// Those of ValidatingWebhookConfigurations.
    pub fn validating(registry: &Registry) -> ApiResult<Self> {
        Self::read(registry, "validatingwebhookconfigurations")
    }
}
