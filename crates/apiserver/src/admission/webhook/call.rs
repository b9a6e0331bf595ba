//! One call of a webhook.

use std::sync::Arc;
use std::time::Instant;

use schema::Value;

use super::super::Attributes;
use super::super::versioned::Versioned;
use super::hook::Hook;
use super::review::{self, Answer};
use crate::metrics::families;
use crate::status::ApiError;
use crate::webhook::WebhookClient;

/// What came of a call that gave no answer.
pub enum Failure {
    /// `failurePolicy` decides about these.
    Calling(String),
    /// The request is refused whatever the policy.
    Refused(ApiError),
}

impl Failure {
    /// The webhook's policy ignores it.
    pub fn is_ignored(&self, hook: &Hook) -> bool {
        matches!(self, Self::Calling(_)) && hook.ignore_failures
    }

    /// The error for the client; `None` if the webhook's policy ignores it.
    pub fn into_error(self, hook: &Hook) -> Option<ApiError> {
        match self {
            Self::Refused(error) => Some(error),
            Self::Calling(why) => {
                let words = format!("failed calling webhook {}: {why}", rules::quote(&hook.name));
                let configuration = hook.configuration.as_str();
                tracing::warn!(configuration, ignored = hook.ignore_failures, "{words}");
                (!hook.ignore_failures).then(|| ApiError::internal(words))
            }
        }
    }
}

/// Asks a webhook. A denial is an answer.
pub async fn call(
    client: &Arc<WebhookClient>,
    hook: &Hook,
    attributes: &Attributes<'_>,
    versioned: &Versioned,
    mutating: bool,
) -> Result<Answer, Failure> {
    if attributes.dry_run && !hook.quiet {
        let name = rules::quote(&hook.name);
        return Err(Failure::Refused(ApiError::bad_request(format!(
            "admission webhook {name} does not support dry run"
        ))));
    }
    let Some(version) = hook.review_version else {
        let why = "could not create admission objects: webhook does not accept known AdmissionReview versions \
                   (v1, v1beta1)";
        return Err(Failure::Calling(why.to_owned()));
    };
    let target = match &hook.target {
        Ok(target) => target,
        Err(why) => return Err(Failure::Calling(format!("could not get REST client: {why}"))),
    };
    let (uid, request) = review::request(attributes, versioned, version);
    let since = Instant::now();
    let posted = client.post(target, &request, hook.timeout).await;
    let step = if mutating { "admit" } else { "validating" };
    let outcome = posted
        .map_err(|e| Failure::Calling(format!("failed to call webhook: {e}")))
        .and_then(|response| read(&response, &uid, version, mutating));
    let refused = !outcome.as_ref().is_ok_and(|answer| answer.denial.is_none());
    let rejected = if refused { "true" } else { "false" };
    let operation = attributes.operation.as_str();
    families::ADMISSION_WEBHOOK.took(&[&hook.name, operation, rejected, step], since.elapsed());
    let code = match &outcome {
        Ok(answer) => answer.denial.as_ref().map_or(200, |status| status.int_at("code").unwrap_or(403)),
        Err(_) => 0,
    };
    let text = code.to_string();
    families::ADMISSION_WEBHOOK_REQUESTS.count(&[&text, &hook.name, operation, rejected, step]);
    match &outcome {
        Err(_) if hook.ignore_failures => families::ADMISSION_WEBHOOK_FAIL_OPEN.count(&[&hook.name, step]),
        Err(_) => {
            let labels = ["calling_webhook_error", hook.name.as_str(), operation, &text, step];
            families::ADMISSION_WEBHOOK_REJECTIONS.count(&labels);
        }
        Ok(_) if refused => {
            families::ADMISSION_WEBHOOK_REJECTIONS.count(&["no_error", &hook.name, operation, &text, step]);
        }
        Ok(_) => {}
    }
    outcome
}

/// What a webhook said.
fn read(response: &Value, uid: &str, version: &str, mutating: bool) -> Result<Answer, Failure> {
    review::answer(response, uid, version, mutating).map_err(|why| {
        let undecodable = why.starts_with("received undecodable");
        Failure::Calling(if undecodable { why } else { format!("received invalid webhook response: {why}") })
    })
}
