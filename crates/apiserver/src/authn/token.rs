//! Bearer tokens of all sorts behind one authenticator.

use std::sync::Arc;

use async_trait::async_trait;
use base::UserInfo;
use http::request::Parts;

use super::{Authenticator, AuthnError, bearer_token, with_authenticated_group};

/// Whom a token stands for.
#[derive(Debug, Clone, Default)]
pub struct TokenOutcome {
    /// The user.
    pub user: UserInfo,
    /// Audiences the token is good for, among those asked; empty when the token knows none.
    pub audiences: Vec<String>,
}

/// Knows one sort of tokens: a static file, service-account tokens, bootstrap tokens, OIDC, a webhook.
#[async_trait]
pub trait TokenAuthenticator: Send + Sync + 'static {
    /// `audiences` empty: the API server's own. Outcomes as of [`Authenticator::authenticate`].
    async fn authenticate_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<TokenOutcome>, AuthnError>;
}

/// Asks token authenticators in order; also answers TokenReview.
#[derive(Default)]
pub struct BearerTokens(Vec<Arc<dyn TokenAuthenticator>>);

impl BearerTokens {
    /// Asks them in this order.
    pub fn new(all: Vec<Arc<dyn TokenAuthenticator>>) -> Self {
        Self(all)
    }

    /// Whom `token` stands for; the last error if all who knew its sort refused it.
    pub async fn review(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<Option<TokenOutcome>, AuthnError> {
        let mut refused = None;
        for authenticator in &self.0 {
            match authenticator.authenticate_token(token, audiences).await {
                Ok(Some(mut outcome)) => {
                    outcome.user = with_authenticated_group(outcome.user);
                    return Ok(Some(outcome));
                }
                Ok(None) => {}
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(None), Err)
    }
}

#[async_trait]
impl Authenticator for BearerTokens {
    async fn authenticate(&self, request: &Parts) -> Result<Option<UserInfo>, AuthnError> {
        let Some(token) = bearer_token(request) else {
            return match websocket_token(request) {
                Some(token) => Ok(self.review(&token, &[]).await?.map(|o| o.user)),
                None => Ok(None),
            };
        };
        Ok(self.review(token, &[]).await?.map(|outcome| outcome.user))
    }
}

/// The token that browsers put into a WebSocket subprotocol, since they cannot set headers.
fn websocket_token(request: &Parts) -> Option<String> {
    use base64::Engine;
    const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
    let protocols = request.headers.get(http::header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let encoded = protocols.split(',').find_map(|p| p.trim().strip_prefix(PREFIX))?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok()
}
