//! Tokens of OpenID Connect issuers: by the `--oidc-*` flags, or by a structured AuthenticationConfiguration (KEP-3331).

mod claims;
mod config;
mod keys;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use base::TaskScope;
use schema::Value;

use super::jwt::Parsed;
use super::token::{TokenAuthenticator, TokenOutcome};
use super::{Anonymous, AuthnError};
use crate::outbound::Trust;
use crate::reload::FileWatch;
use crate::{Error, Options};
use claims::Mapping;
use keys::KeySet;

/// A token is accepted this long before it is valid, for clocks that differ (go-oidc's leeway).
const NOT_BEFORE_LEEWAY_S: i64 = 5 * 60;

/// One issuer.
pub struct Issuer {
    url: String,
    audiences: Vec<String>,
    algorithms: Vec<String>,
    keys: KeySet,
    mapping: Mapping,
}

/// All issuers that are configured.
pub struct OidcTokens {
    issuers: ArcSwap<Vec<Issuer>>,
}

/// What the file of `--authentication-config` says.
pub struct Configured {
    /// Its issuers.
    pub tokens: Arc<OidcTokens>,
    /// Its section `anonymous`; `None` without one.
    pub anonymous: Option<Option<Anonymous>>,
}

impl OidcTokens {
    /// The issuer of the flags; `None` without them.
    pub fn from_flags(options: &Options) -> Result<Option<Arc<Self>>, Error> {
        let Some(flags) = &options.oidc else { return Ok(None) };
        let wrong = |reason: String| Error::Flag { flag: "oidc-issuer-url", reason };
        let issuer = config::from_flags(flags, &options.service_account_issuer).map_err(wrong)?;
        Ok(Some(Arc::new(Self { issuers: ArcSwap::from_pointee(vec![issuer]) })))
    }

    /// The issuers of the configuration file, and of its new content whenever it changes; `None` without one.
    pub fn from_file(options: &Options, scope: &TaskScope) -> Result<Option<Configured>, Error> {
        let Some(path) = options.authentication_config.clone() else { return Ok(None) };
        let own = options.service_account_issuer.clone();
        let watch = FileWatch::new(path.clone());
        let found = read(&path, &own)?;
        let tokens = Arc::new(Self { issuers: ArcSwap::from_pointee(found.issuers) });
        let (kept, anonymous) = (tokens.clone(), found.anonymous);
        scope.spawn(async move {
            let mut watch = watch;
            loop {
                watch.changed().await;
                match read(&path, &own) {
                    Ok(found) => {
                        kept.issuers.store(Arc::new(found.issuers));
                        tracing::info!(path = %path.display(), "authentication is configured anew");
                    }
                    Err(error) => tracing::error!(%error, "keep the previous authentication configuration"),
                }
            }
        });
        Ok(Some(Configured { tokens, anonymous }))
    }
}

fn read(path: &PathBuf, own_issuers: &[String]) -> Result<config::File, Error> {
    let text = std::fs::read(path).map_err(|source| Error::File { path: path.clone(), source })?;
    config::parse(&text, own_issuers).map_err(|reason| Error::Config { path: path.clone(), reason })
}

#[async_trait]
impl TokenAuthenticator for OidcTokens {
    async fn authenticate_token(
        &self,
        token: &str,
        _: &[String],
    ) -> Result<Option<TokenOutcome>, AuthnError> {
        let Ok(parsed) = Parsed::parse(token) else { return Ok(None) };
        let issuers = self.issuers.load_full();
        let url = parsed.claims.str_at("iss").unwrap_or_default();
        let Some(issuer) = issuers.iter().find(|issuer| issuer.url == url) else { return Ok(None) };
        issuer.check(&parsed).await.map(Some).map_err(|e| AuthnError(format!("oidc: {e}")))
    }
}

impl Issuer {
    async fn check(&self, token: &Parsed<'_>) -> Result<TokenOutcome, String> {
        let algorithm = token.header.str_at("alg").unwrap_or_default();
        if !self.algorithms.iter().any(|allowed| allowed == algorithm) {
            return Err(format!(
                "id token signed with unsupported algorithm, expected {:?} got {algorithm:?}",
                self.algorithms
            ));
        }
        let claims = &token.claims;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        if claims.int_at("exp").is_none_or(|exp| exp <= now) {
            return Err("verify token: oidc: token is expired".to_owned());
        }
        if claims.int_at("nbf").is_some_and(|from| from > now + NOT_BEFORE_LEEWAY_S) {
            return Err("verify token: oidc: current time is before the nbf (not before) time".to_owned());
        }
        let of_token = audiences(claims);
        if !self.audiences.iter().any(|own| of_token.contains(&own.as_str())) {
            return Err(format!(
                "verify token: oidc: expected audience in {:?} got {of_token:?}",
                self.audiences
            ));
        }
        self.keys.verify(token).await.map_err(|e| format!("verify token: {e}"))?;
        let user = self.mapping.user(claims)?;
        Ok(TokenOutcome { user, audiences: Vec::new() })
    }
}

fn audiences(claims: &Value) -> Vec<&str> {
    match claims.get("aud") {
        Some(Value::List(all)) => all.iter().filter_map(Value::as_str).collect(),
        Some(one) => one.as_str().into_iter().collect(),
        None => Vec::new(),
    }
}

/// Where an issuer's keys are asked for, and whom to believe there.
pub(super) fn trust(authority: Option<Vec<u8>>) -> Trust {
    Trust { authorities: authority.unwrap_or_default(), ..Trust::default() }
}
