//! Mode `Webhook`: another server is asked by SubjectAccessReview, if the conditions of its configuration hold
//! (KEP-3221).

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::UserInfo;
use cel::{Bindings, CostBudget, Env, PER_CALL_LIMIT, Program, Type};
use parking_lot::Mutex;
use schema::{Value, value};

use super::selector::requirements;
use super::{Attributes, Authorizer, Decision, UserRules};
use crate::Error;
use crate::api::virtual_kinds::user_value;
use crate::outbound::{Endpoint, from_kubeconfig, retrying};

/// Answers that are kept; beyond this the stale ones are forgotten, and all if that does not help.
const MAX_KEPT: usize = 8192;
/// Questions longer than this are not kept, in bytes (`maxControlledAttrCacheSize`).
const MAX_KEPT_BYTES: usize = 10_000;
/// Conditions at most (upstream's limit).
const MAX_CONDITIONS: usize = 64;

/// How a webhook is asked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `v1` or `v1beta1`.
    pub version: String,
    /// How long a yes is believed.
    pub authorized_ttl: Duration,
    /// How long a no is believed.
    pub unauthorized_ttl: Duration,
    /// Time for one question.
    pub timeout: Duration,
    /// No answer is a no that nobody can overrule (`failurePolicy: Deny`).
    pub deny_on_failure: bool,
    /// Expressions over `request`; it is asked only if all hold.
    pub conditions: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: "v1".to_owned(),
            authorized_ttl: Duration::from_secs(5 * 60),
            unauthorized_ttl: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            deny_on_failure: false,
            conditions: Vec::new(),
        }
    }
}

/// One webhook.
pub struct Webhook {
    endpoint: Endpoint,
    settings: Settings,
    conditions: Vec<(String, Program)>,
    kept: Mutex<HashMap<Vec<u8>, (Instant, Decision)>>,
}

impl Webhook {
    /// The webhook of a kubeconfig file.
    pub fn new(file: &Path, settings: Settings) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Config { path: file.to_owned(), reason };
        if !matches!(settings.version.as_str(), "v1" | "v1beta1") {
            return Err(wrong(format!("unsupported SubjectAccessReview version {:?}", settings.version)));
        }
        if settings.conditions.len() > MAX_CONDITIONS {
            return Err(wrong(format!("matchConditions: must have at most {MAX_CONDITIONS} items")));
        }
        let env = Env::new().variable("request", Type::Dyn);
        let compile = |source: &String| {
            let program = env.compile(source, &[Type::Bool]);
            let program = program.map_err(|e| wrong(format!("matchConditions: {source:?}: {e}")))?;
            Ok((source.clone(), program))
        };
        let conditions = settings.conditions.iter().map(compile).collect::<Result<_, Error>>()?;
        Ok(Self { endpoint: from_kubeconfig(file)?, settings, conditions, kept: Mutex::default() })
    }

    fn failed(&self, why: String) -> Decision {
        tracing::error!(%why, "ask the authorization webhook");
        match self.settings.deny_on_failure {
            true => Decision::Deny(why),
            false => Decision::NoOpinion(String::new()),
        }
    }

    /// Whether it is to be asked: false if a condition does not hold. The error is of conditions that fail while none
    /// says no.
    fn concerned(&self, spec: &Value) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let mut failure = None;
        let mut budget = CostBudget::new(PER_CALL_LIMIT * 4);
        let variables = Bindings::new().with("request", cel::Value::from_json(spec));
        for (source, program) in &self.conditions {
            match program.evaluate(&variables, &mut budget) {
                Ok(value) if value.as_bool() == Some(true) => {}
                Ok(_) => return Ok(false),
                Err(error) => failure = Some(format!("matchConditions: {source:?}: {error}")),
            }
        }
        failure.map_or(Ok(true), Err)
    }

    fn ttl(&self, decision: &Decision) -> Duration {
        if decision.is_allowed() { self.settings.authorized_ttl } else { self.settings.unauthorized_ttl }
    }

    fn keep(&self, key: Vec<u8>, decision: &Decision) {
        if key.len() > MAX_KEPT_BYTES || self.ttl(decision).is_zero() {
            return;
        }
        let mut kept = self.kept.lock();
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (since, decision)| since.elapsed() < self.ttl(decision));
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
        }
        kept.insert(key, (Instant::now(), decision.clone()));
    }
}

/// The `spec` of a SubjectAccessReview of `authorization.k8s.io/v1`.
pub fn spec_of(asked: &Attributes) -> Value {
    let user = user_value(&asked.user);
    let mut spec = value!({"user": (asked.user.name.as_str())});
    for field in ["uid", "groups", "extra"] {
        if let Some(found) = user.get(field) {
            spec.insert(field, found.clone());
        }
    }
    if !asked.is_resource {
        let path = value!({"path": (asked.path.as_str()), "verb": (asked.verb.as_str())});
        spec.insert("nonResourceAttributes", path);
        return spec;
    }
    let mut resource = Value::map();
    for (field, text) in [
        ("namespace", &asked.namespace),
        ("verb", &asked.verb),
        ("group", &asked.api_group),
        ("version", &asked.api_version),
        ("resource", &asked.resource),
        ("subresource", &asked.subresource),
        ("name", &asked.name),
    ] {
        if !text.is_empty() {
            resource.insert(field, text.as_str());
        }
    }
    for (field, selector) in
        [("fieldSelector", &asked.field_selector), ("labelSelector", &asked.label_selector)]
    {
        if let Some(all) = selector.as_deref().and_then(requirements) {
            resource.insert(field, value!({"requirements": (Value::List(all))}));
        }
    }
    spec.insert("resourceAttributes", resource);
    spec
}

#[async_trait]
impl Authorizer for Webhook {
    async fn authorize(&self, asked: &Attributes) -> Decision {
        let mut spec = spec_of(asked);
        match self.concerned(&spec) {
            Ok(true) => {}
            Ok(false) => return Decision::NoOpinion(String::new()),
            Err(why) => return self.failed(why),
        }
        let key = codec::json::encode(&spec);
        let known = self.kept.lock().get(&key).cloned();
        if let Some((since, decision)) = known
            && since.elapsed() < self.ttl(&decision)
        {
            return decision;
        }
        if self.settings.version == "v1beta1"
            && let Some(groups) = spec.remove("groups")
        {
            spec.insert("group", groups);
        }
        let review = value!({
            "kind": "SubjectAccessReview", "apiVersion": (format!("authorization.k8s.io/{}", self.settings.version)),
            "metadata": {}, "spec": (spec)
        });
        let answer = match retrying(|| self.endpoint.post_json(&review, self.settings.timeout)).await {
            Ok(answer) => answer,
            Err(error) => return self.failed(error.to_string()),
        };
        let status = &answer["status"];
        let reason = status.str_at("reason").unwrap_or_default().to_owned();
        let decision = match (status.bool_at("allowed"), status.bool_at("denied")) {
            (Some(true), Some(true)) => {
                return self.failed(
                    "webhook subject access review returned both allow and deny response".to_owned(),
                );
            }
            (_, Some(true)) => Decision::Deny(reason),
            (Some(true), _) => Decision::Allow(reason),
            _ => Decision::NoOpinion(reason),
        };
        self.keep(key, &decision);
        decision
    }

    async fn rules_for(&self, _: &UserInfo, _: &str) -> UserRules {
        UserRules {
            incomplete: true,
            evaluation_error: "webhook authorizer does not support user rule resolution".to_owned(),
            ..UserRules::default()
        }
    }
}
