//! Who asks, and whether they may: client certificates and TokenReview, then SubjectAccessReview, both remembered for
//! a while (`authentication`, `authorization` with mode Webhook).

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use base::SharedClock;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;

/// How long answers are remembered (upstream `cacheTTL`, `cacheAuthorizedTTL`, `cacheUnauthorizedTTL`).
const TOKEN_TTL: Duration = Duration::from_secs(120);
const ALLOWED_TTL: Duration = Duration::from_secs(300);
const DENIED_TTL: Duration = Duration::from_secs(30);
/// Answers remembered at most.
const CACHE_LIMIT: usize = 1024;

/// A connection's client certificate, if it has one: user and groups.
#[derive(Debug, Default)]
pub struct Peer {
    pub identity: Option<(String, Vec<String>)>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 401.
    Unknown,
    /// 403, with what would have been needed.
    Forbidden(String),
    /// 500: it could not be found out.
    Failed(String),
}

struct Cache<K, V>(Mutex<HashMap<K, (Instant, V)>>);

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    fn get(&self, key: &K, now: Instant) -> Option<V> {
        self.0.lock().get(key).filter(|(until, _)| *until > now).map(|(_, value)| value.clone())
    }

    fn put(&self, key: K, value: V, until: Instant, now: Instant) {
        let mut map = self.0.lock();
        if map.len() >= CACHE_LIMIT {
            map.retain(|_, (until, _)| *until > now);
            if map.len() >= CACHE_LIMIT {
                map.clear();
            }
        }
        map.insert(key, (until, value));
    }
}

/// Asks the API server.
pub struct Access {
    client: kube::Client,
    node_name: String,
    clock: SharedClock,
    tokens: Cache<String, Option<User>>,
    decisions: Cache<(User, &'static str, &'static str), bool>,
}

impl Access {
    /// Remembers nothing yet.
    pub fn new(client: kube::Client, node_name: String, clock: SharedClock) -> Self {
        Self { client, node_name, clock, tokens: Cache(Mutex::default()), decisions: Cache(Mutex::default()) }
    }

    /// Lets a request pass, or says why not.
    pub async fn check(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        method: &Method,
        path: &str,
    ) -> Result<User, Refusal> {
        let user = self.user(peer, headers).await?.ok_or(Refusal::Unknown)?;
        let verb = verb(method);
        let subresources = subresources(path);
        for subresource in subresources {
            if self.allowed(&user, verb, subresource).await? {
                return Ok(user);
            }
        }
        let resources: Vec<String> = subresources.iter().map(|s| format!("nodes/{s}")).collect();
        Err(Refusal::Forbidden(format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])",
            user.name,
            resources.iter().map(|r| r.trim_start_matches("nodes/")).collect::<Vec<_>>().join(" ")
        )))
    }

    async fn user(&self, peer: &Peer, headers: &HeaderMap) -> Result<Option<User>, Refusal> {
        if let Some((name, groups)) = &peer.identity {
            let mut groups = groups.clone();
            groups.push("system:authenticated".to_owned());
            return Ok(Some(User { name: name.clone(), uid: String::new(), groups }));
        }
        let header = headers.get(AUTHORIZATION).and_then(|h| h.to_str().ok());
        let Some(token) = header.and_then(|h| h.strip_prefix("Bearer ")) else { return Ok(None) };
        let now = self.clock.instant();
        if let Some(known) = self.tokens.get(&token.to_owned(), now) {
            return Ok(known);
        }
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() },
            ..TokenReview::default()
        };
        let answer =
            api.create(&PostParams::default(), &review).await.map_err(|e| Refusal::Failed(e.to_string()))?;
        let status = answer.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
        });
        self.tokens.put(token.to_owned(), user.clone(), now + TOKEN_TTL, now);
        Ok(user)
    }

    async fn allowed(
        &self,
        user: &User,
        verb: &'static str,
        subresource: &'static str,
    ) -> Result<bool, Refusal> {
        let now = self.clock.instant();
        let key = (user.clone(), verb, subresource);
        if let Some(known) = self.decisions.get(&key, now) {
            return Ok(known);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    group: Some(String::new()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    name: Some(self.node_name.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer =
            api.create(&PostParams::default(), &review).await.map_err(|e| Refusal::Failed(e.to_string()))?;
        let allowed = answer.status.is_some_and(|s| s.allowed);
        let ttl = if allowed { ALLOWED_TTL } else { DENIED_TTL };
        self.decisions.put(key, allowed, now + ttl, now);
        Ok(allowed)
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The subresources of `nodes` any of which allows the path (upstream `NewNodeAuthorizerAttributesGetter`, KEP-2862).
fn subresources(path: &str) -> &'static [&'static str] {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_needs() {
        for (path, expected) in [
            ("/stats/summary", &["stats"][..]),
            ("/metrics", &["metrics"]),
            ("/metrics/resource", &["metrics"]),
            ("/healthz", &["healthz", "proxy"]),
            ("/pods", &["pods", "proxy"]),
            ("/exec/n/p/c", &["proxy"]),
            ("/containerLogs/n/p/c", &["proxy"]),
            ("/statsx", &["proxy"]),
        ] {
            assert_eq!(subresources(path), expected, "{path}");
        }
        assert_eq!((verb(&Method::GET), verb(&Method::POST)), ("get", "create"));
    }
}
