//! Service account tokens bound to pods, renewed before they expire (upstream `token.Manager`).

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use base::SharedClock;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;

use crate::pod::{PodUid, spec};

/// A token older than this is renewed whatever its lifetime.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// What a token without a wish lasts, in seconds.
const DEFAULT_EXPIRATION_S: i64 = 3600;
/// A renewal that fails is tried again after this long, as long as the old token is good.
const RETRY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    pod: PodUid,
    account: String,
    audience: Option<String>,
    expiration_s: i64,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    renew_at: SystemTime,
    expires: SystemTime,
}

/// Gets and keeps tokens.
pub struct Tokens {
    client: kube::Client,
    clock: SharedClock,
    known: Mutex<HashMap<Key, Token>>,
}

impl Tokens {
    /// Tokens by TokenRequest.
    pub fn new(client: kube::Client, clock: SharedClock) -> Self {
        Self { client, clock, known: Mutex::default() }
    }

    /// A token of the pod's service account, and the time until it is to be renewed.
    pub async fn get(
        &self,
        pod: &Pod,
        audience: Option<&str>,
        expiration_s: Option<i64>,
    ) -> Result<(String, Duration), String> {
        let account = spec::spec(pod).service_account_name.clone().unwrap_or_else(|| "default".to_owned());
        let key = Key {
            pod: spec::uid(pod),
            account,
            audience: audience.filter(|a| !a.is_empty()).map(str::to_owned),
            expiration_s: expiration_s.unwrap_or(DEFAULT_EXPIRATION_S),
        };
        let now = self.clock.now();
        let known = self.known.lock().get(&key).cloned();
        if let Some(token) = known.as_ref().filter(|t| t.renew_at > now) {
            return Ok((token.text.clone(), token.renew_at.duration_since(now).unwrap_or_default()));
        }
        match self.request(pod, &key).await {
            Ok(token) => {
                let left = token.renew_at.duration_since(now).unwrap_or_default();
                let text = token.text.clone();
                self.known.lock().insert(key, token);
                Ok((text, left))
            }
            Err(error) => match known.filter(|t| t.expires > now) {
                Some(token) => {
                    tracing::warn!(%error, pod = %key.pod, "cannot renew a service account token yet");
                    Ok((token.text, RETRY))
                }
                None => Err(format!("failed to fetch token: {error}")),
            },
        }
    }

    /// Forgets the tokens of a pod.
    pub fn forget(&self, pod: &PodUid) {
        self.known.lock().retain(|key, _| key.pod != *pod);
    }

    async fn request(&self, pod: &Pod, key: &Key) -> Result<Token, kube::Error> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), spec::namespace(pod));
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: key.audience.clone().map(|audience| vec![audience]),
                expiration_seconds: Some(key.expiration_s),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(spec::name(pod).to_owned()),
                    uid: Some(key.pod.to_string()),
                }),
            }),
            ..TokenRequest::default()
        };
        let now = self.clock.now();
        let status = api
            .create_token_request(&key.account, &PostParams::default(), &request)
            .await?
            .status
            .unwrap_or_default();
        // Without an expiry in the answer, what was asked for.
        let asked = now + Duration::from_secs(key.expiration_s.max(0) as u64);
        let expires = status.expiration_timestamp.map_or(asked, |t| SystemTime::from(t.0));
        Ok(Token {
            text: status.token.unwrap_or_default(),
            renew_at: now + renew_after(now, expires),
            expires,
        })
    }
}

/// At 80% of the lifetime, and at least daily, up to ten seconds early so that tokens do not renew all at once.
fn renew_after(now: SystemTime, expires: SystemTime) -> Duration {
    let lifetime = expires.duration_since(now).unwrap_or_default();
    let jitter = Duration::from_millis(fastrand::u64(0..10_000));
    (lifetime * 4 / 5).min(MAX_AGE).saturating_sub(jitter)
}
