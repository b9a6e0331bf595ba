//! Service-account tokens: issued for TokenRequest, verified as bearer tokens, described by the OIDC documents.
//!
//! KEP-1205 (bound tokens), KEP-1393 (discovery), KEP-4193 (node claims).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use base::UserInfo;
use schema::{Value, value};

use super::AuthnError;
use super::jwt::{Parsed, Signer, Verifier, sign};
use super::token::{TokenAuthenticator, TokenOutcome};
use crate::registry::Registry;
use crate::status::{ApiError, ApiResult};
use crate::subresource::{IssuedToken, TokenClaims, TokenIssuer};
use crate::{Error, Options};

const USER_PREFIX: &str = "system:serviceaccount:";
/// A token is accepted this long after the object it is bound to began to be deleted, as upstream.
const DELETION_LEEWAY_S: i64 = 60;

/// Issues and verifies the tokens of one issuer.
pub struct ServiceAccountTokens {
    registry: Arc<Registry>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    signer: Option<Signer>,
    keys: Vec<Verifier>,
    jwks_uri: Option<String>,
    lookup: bool,
}

impl ServiceAccountTokens {
    /// With the keys, issuers and audiences of `options`. Without a signing key tokens are verified and none issued.
    pub fn new(registry: Arc<Registry>, options: &Options) -> Result<Self, Error> {
        let signer = options.service_account_signing_key_file.as_deref().map(Signer::load).transpose()?;
        let mut keys: Vec<Verifier> = Vec::new();
        for file in &options.service_account_key_file {
            keys.extend(Verifier::load(file)?);
        }
        let own =
            signer.as_ref().map(Signer::verifier).filter(|own| keys.iter().all(|key| key.id() != own.id()));
        keys.extend(own);
        let issuers = options.service_account_issuer.clone();
        let audiences =
            if options.api_audiences.is_empty() { issuers.clone() } else { options.api_audiences.clone() };
        let jwks_uri = options.service_account_jwks_uri.clone();
        Ok(Self {
            registry,
            issuers,
            audiences,
            signer,
            keys,
            jwks_uri,
            lookup: options.service_account_lookup,
        })
    }

    /// The API server's own audiences.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// True if it can issue tokens.
    pub fn can_issue(&self) -> bool {
        self.signer.is_some()
    }

    fn check(&self, claims: &Value, asked: &[String]) -> Result<Vec<String>, AuthnError> {
        let refuse = |why: &str| AuthnError(why.to_owned());
        let now = now_s();
        if claims.int_at("exp").is_none_or(|exp| exp <= now) {
            return Err(refuse("service account token has expired"));
        }
        if claims.int_at("nbf").is_some_and(|from| from > now + DELETION_LEEWAY_S) {
            return Err(refuse("service account token is not valid yet"));
        }
        let wanted = if asked.is_empty() { &self.audiences } else { asked };
        let of_token: Vec<&str> = match claims.at("aud") {
            Some(Value::List(all)) => all.iter().filter_map(Value::as_str).collect(),
            Some(one) => one.as_str().into_iter().collect(),
            None => Vec::new(),
        };
        let both: Vec<String> = wanted.iter().filter(|a| of_token.contains(&a.as_str())).cloned().collect();
        if both.is_empty() {
            return Err(AuthnError(format!(
                "token audiences {of_token:?} is invalid for the target audiences {wanted:?}"
            )));
        }
        Ok(both)
    }

    /// An object that a token names must be there, be the same, and not be deleted for long.
    fn require(&self, plural: &str, namespace: &str, reference: &Value) -> Result<(), AuthnError> {
        let name = reference.str_at("name").unwrap_or_default();
        let found = self.registry.find("", plural, namespace, name).map_err(|e| AuthnError(e.message))?;
        let Some(found) = found else { return Err(AuthnError(format!("{plural} {name:?} is gone"))) };
        if found.str_at("metadata.uid") != reference.str_at("uid") {
            return Err(AuthnError(format!("{plural} {name:?} is another than the token's")));
        }
        let deleted =
            found.str_at("metadata.deletionTimestamp").and_then(|t| t.parse::<jiff::Timestamp>().ok());
        if deleted.is_some_and(|at| at.as_second() + DELETION_LEEWAY_S < now_s()) {
            return Err(AuthnError(format!("{plural} {name:?} has been deleted")));
        }
        Ok(())
    }
}

fn now_s() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

/// The claims of a token issued now.
fn document(issuer: &str, claims: &TokenClaims, expires_at: i64) -> Value {
    let now = now_s();
    let reference = |name: &str, uid: &str| value!({"name": name, "uid": uid});
    let mut kubernetes = value!({
        "namespace": (claims.namespace.as_str()),
        "serviceaccount": (reference(&claims.service_account, &claims.uid))
    });
    if let Some((kind, name, uid)) = &claims.bound_to {
        kubernetes.insert(kind.to_lowercase(), reference(name, uid));
    }
    if let Some((name, uid)) = &claims.node {
        kubernetes.insert("node", reference(name, uid));
    }
    if let Some(warn) = claims.warn_after_s {
        kubernetes.insert("warnafter", now + warn);
    }
    let audiences: Vec<Value> = claims.audiences.iter().map(|a| Value::str(a.as_str())).collect();
    value!({
        "iss": issuer,
        "sub": (format!("{USER_PREFIX}{}:{}", claims.namespace, claims.service_account)),
        "aud": (Value::List(audiences)),
        "exp": expires_at,
        "iat": now,
        "nbf": now,
        "jti": (crate::registry::meta::new_uid()),
        "kubernetes.io": kubernetes
    })
}

#[async_trait]
impl TokenIssuer for ServiceAccountTokens {
    async fn issue(&self, claims: &TokenClaims) -> ApiResult<IssuedToken> {
        let (Some(signer), Some(issuer)) = (&self.signer, self.issuers.first()) else {
            return Err(ApiError::not_implemented(
                "issuing tokens without --service-account-signing-key-file",
            ));
        };
        let expires_at = now_s() + claims.expires_in_s;
        let token = sign(signer, &document(issuer, claims, expires_at)).map_err(ApiError::internal)?;
        Ok(IssuedToken { token, expires_at })
    }

    fn default_audiences(&self) -> Vec<String> {
        self.audiences.clone()
    }

    fn jwks(&self) -> Value {
        value!({"keys": (Value::List(self.keys.iter().filter_map(Verifier::to_jwk).collect()))})
    }

    fn openid_configuration(&self, address: SocketAddr) -> Value {
        let uri = self.jwks_uri.clone().unwrap_or_else(|| format!("https://{address}/openid/v1/jwks"));
        let mut algorithms: Vec<&str> = self.keys.iter().map(Verifier::algorithm).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        let algorithms: Vec<Value> = algorithms.into_iter().map(Value::str).collect();
        value!({
            "issuer": (self.issuers.first().map(String::as_str).unwrap_or_default()),
            "jwks_uri": uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": (Value::List(algorithms))
        })
    }
}

#[async_trait]
impl TokenAuthenticator for ServiceAccountTokens {
    async fn authenticate_token(
        &self,
        token: &str,
        asked: &[String],
    ) -> Result<Option<TokenOutcome>, AuthnError> {
        let Ok(parsed) = Parsed::parse(token) else { return Ok(None) };
        let issuer = parsed.claims.str_at("iss").unwrap_or_default();
        if !self.issuers.iter().any(|own| own == issuer) {
            return Ok(None);
        }
        parsed.verify(&self.keys).map_err(|e| AuthnError(e.to_string()))?;
        let claims = &parsed.claims;
        let audiences = self.check(claims, asked)?;
        let Some(kubernetes) = claims.get("kubernetes.io") else {
            return Err(AuthnError("the token has no Kubernetes claims".to_owned()));
        };
        let namespace = kubernetes.str_at("namespace").unwrap_or_default();
        let account = kubernetes.get("serviceaccount").cloned().unwrap_or_default();
        let mut user = UserInfo {
            name: format!("{USER_PREFIX}{namespace}:{}", account.str_at("name").unwrap_or_default()),
            uid: account.str_at("uid").unwrap_or_default().to_owned(),
            groups: vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")],
            ..UserInfo::default()
        };
        if self.lookup {
            self.require("serviceaccounts", namespace, &account)?;
        }
        let mut extra = |key: &str, text: Option<&str>| {
            if let Some(text) = text {
                user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![text.to_owned()]);
            }
        };
        extra("credential-id", claims.str_at("jti").map(|id| format!("JTI={id}")).as_deref());
        for (claim, plural) in [("pod", "pods"), ("secret", "secrets"), ("node", "nodes")] {
            let Some(reference) = kubernetes.get(claim) else { continue };
            let bound = claim != "node" || kubernetes.get("pod").is_none();
            if bound {
                self.require(plural, if claim == "node" { "" } else { namespace }, reference)?;
            }
            if claim != "secret" {
                extra(&format!("{claim}-name"), reference.str_at("name"));
                extra(&format!("{claim}-uid"), reference.str_at("uid"));
            }
        }
        Ok(Some(TokenOutcome { user, audiences }))
    }
}
