//! Bootstrap tokens: `ID.SECRET`, kept as Secrets of `kube-system` (`bootstrap.kubernetes.io/token`).

use std::sync::Arc;

use async_trait::async_trait;
use base::UserInfo;
use base64::Engine;
use schema::Value;

use super::AuthnError;
use super::token::{TokenAuthenticator, TokenOutcome};
use crate::registry::Registry;

const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// Knows the bootstrap tokens that are there.
pub struct BootstrapTokens {
    registry: Arc<Registry>,
}

impl BootstrapTokens {
    /// Over the Secrets of `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

/// A field of a Secret's data, decoded.
fn field(secret: &Value, key: &str) -> Option<String> {
    let encoded = secret.map_at("data")?.get_str(key)?;
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).ok()?).ok()
}

fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    (plain(id, ID_LENGTH) && plain(secret, SECRET_LENGTH)).then_some((id, secret))
}

/// Compares in the same time wherever the texts differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[async_trait]
impl TokenAuthenticator for BootstrapTokens {
    async fn authenticate_token(
        &self,
        token: &str,
        _: &[String],
    ) -> Result<Option<TokenOutcome>, AuthnError> {
        let Some((id, secret)) = split(token) else { return Ok(None) };
        let name = format!("bootstrap-token-{id}");
        let found =
            self.registry.find("", "secrets", "kube-system", &name).map_err(|e| AuthnError(e.message))?;
        let Some(found) = found.filter(|s| s.str_at("metadata.deletionTimestamp").is_none()) else {
            return Ok(None);
        };
        let fits = found.str_at("type") == Some(SECRET_TYPE)
            && field(&found, "token-id").as_deref() == Some(id)
            && field(&found, "token-secret").is_some_and(|own| same(&own, secret))
            && field(&found, "usage-bootstrap-authentication").as_deref() == Some("true");
        let expired = match field(&found, "expiration") {
            Some(text) => text.parse::<jiff::Timestamp>().map_or(true, |at| at <= jiff::Timestamp::now()),
            None => false,
        };
        if !fits || expired {
            return Ok(None);
        }
        let mut groups = vec![GROUP.to_owned()];
        let extra = field(&found, "auth-extra-groups").unwrap_or_default();
        groups.extend(extra.split(',').filter(|g| g.starts_with("system:bootstrappers:")).map(str::to_owned));
        let user = UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() };
        Ok(Some(TokenOutcome { user, audiences: Vec::new() }))
    }
}
