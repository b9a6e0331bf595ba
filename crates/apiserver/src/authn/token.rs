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
pub struct BearerTokens {
    all: Vec<Arc<dyn TokenAuthenticator>>,
    /// The audiences of the API server, which tokens that know none are for.
    own_audiences: Vec<String>,
}

/// What upstream says about a token that nobody knows.
const INVALID: &str = "invalid bearer token";

impl BearerTokens {
    /// Asks them in this order. Tokens that know no audiences are for `own_audiences`.
    pub fn new(all: Vec<Arc<dyn TokenAuthenticator>>, own_audiences: Vec<String>) -> Self {
        Self { all, own_audiences }
    }

    /// Whom `token` stands for; the last error if all who knew its sort refused it, and one if nobody knew it.
    pub async fn review(&self, token: &str, audiences: &[String]) -> Result<TokenOutcome, AuthnError> {
        let mut refused = None;
        for authenticator in &self.all {
            match authenticator.authenticate_token(token, audiences).await {
                Ok(Some(mut outcome)) => {
                    if outcome.audiences.is_empty() && !self.own_audiences.is_empty() {
                        let wanted = |own: &&String| audiences.is_empty() || audiences.contains(own);
                        outcome.audiences = self.own_audiences.iter().filter(wanted).cloned().collect();
                        if outcome.audiences.is_empty() {
                            continue;
                        }
                    }
                    outcome.user = with_authenticated_group(outcome.user);
                    return Ok(outcome);
                }
                Ok(None) => {}
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| AuthnError(INVALID.to_owned())))
    }
}

#[async_trait]
impl Authenticator for BearerTokens {
    async fn authenticate(&self, request: &Parts) -> Result<Option<UserInfo>, AuthnError> {
        let Some(token) = bearer_token(request) else {
            return match websocket_token(request) {
                Some(token) => Ok(Some(self.review(&token, &[]).await?.user)),
                None => Ok(None),
            };
        };
        Ok(Some(self.review(token, &[]).await?.user))
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
