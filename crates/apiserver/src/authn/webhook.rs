//! Tokens that another server is asked about (`--authentication-token-webhook-config-file`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::UserInfo;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use schema::{Value, value};

use super::AuthnError;
use super::token::{TokenAuthenticator, TokenOutcome};
use crate::options::TokenWebhookOptions;
use crate::outbound::{Endpoint, from_kubeconfig, retrying};
use crate::{Error, api::virtual_kinds::user_of};

/// Time for one question.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Answers that are kept; beyond this the stale ones are forgotten, and all if that does not help.
const MAX_KEPT: usize = 4096;

type Answer = Option<(UserInfo, Vec<String>)>;

/// Asks a webhook, and believes its answers for a while.
pub struct WebhookTokens {
    endpoint: Endpoint,
    api_version: String,
    own_audiences: Vec<String>,
    ttl: Duration,
    kept: Mutex<HashMap<Vec<u8>, (Instant, Answer)>>,
}

impl WebhookTokens {
    /// By the flags. `own_audiences` are meant by questions that name none.
    pub fn new(options: &TokenWebhookOptions, own_audiences: Vec<String>) -> Result<Self, Error> {
        if !matches!(options.version.as_str(), "v1" | "v1beta1") {
            let reason = format!("unsupported authentication webhook version {:?}", options.version);
            return Err(Error::Flag { flag: "authentication-token-webhook-version", reason });
        }
        Ok(Self {
            endpoint: from_kubeconfig(&options.config_file)?,
            api_version: format!("authentication.k8s.io/{}", options.version),
            own_audiences,
            ttl: options.cache_ttl,
            kept: Mutex::default(),
        })
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Answer, AuthnError> {
        let review = value!({
            "kind": "TokenReview", "apiVersion": (self.api_version.as_str()), "metadata": {},
            "spec": {"token": token, "audiences": (audiences.to_vec())}
        });
        let answer = retrying(|| self.endpoint.post_json(&review, TIMEOUT)).await;
        let answer = answer.map_err(|e| AuthnError(format!("token webhook: {e}")))?;
        let status = &answer["status"];
        if status.bool_at("authenticated") != Some(true) {
            return match status.str_at("error").filter(|e| !e.is_empty()) {
                Some(error) => Err(AuthnError(error.to_owned())),
                None => Ok(None),
            };
        }
        let found: Vec<&str> = status.items_at("audiences").iter().filter_map(Value::as_str).collect();
        let agreed: Vec<String> = match found.is_empty() {
            // A webhook that knows no audiences speaks for the API server's own.
            true => audiences.iter().filter(|a| self.own_audiences.contains(a)).cloned().collect(),
            false => audiences.iter().filter(|a| found.contains(&a.as_str())).cloned().collect(),
        };
        if agreed.is_empty() && !audiences.is_empty() {
            return Ok(None);
        }
        Ok(Some((user_of(&status["user"]), agreed)))
    }

    fn keep(&self, key: Vec<u8>, answer: Answer) {
        if self.ttl.is_zero() {
            return;
        }
        let mut kept = self.kept.lock();
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (since, _)| since.elapsed() < self.ttl);
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
        }
        kept.insert(key, (Instant::now(), answer));
    }
}

#[async_trait]
impl TokenAuthenticator for WebhookTokens {
    async fn authenticate_token(
        &self,
        token: &str,
        asked: &[String],
    ) -> Result<Option<TokenOutcome>, AuthnError> {
        let audiences = if asked.is_empty() { &self.own_audiences } else { asked };
        let key = digest(&SHA256, format!("{}\n{token}", audiences.join("\n")).as_bytes()).as_ref().to_vec();
        let known =
            self.kept.lock().get(&key).filter(|(at, _)| at.elapsed() < self.ttl).map(|(_, a)| a.clone());
        let answer = match known {
            Some(answer) => answer,
            None => {
                let answer = self.ask(token, audiences).await?;
                self.keep(key, answer.clone());
                answer
            }
        };
        Ok(answer.map(|(user, audiences)| TokenOutcome { user, audiences }))
    }
}
