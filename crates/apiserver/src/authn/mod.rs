//! Who sends a request: authenticators asked in order, then impersonation.

mod anonymous;
pub mod bootstrap_token;
mod client_cert;
pub(crate) mod impersonation;
pub mod jwt;
pub mod service_account;
mod token;
mod token_file;

use std::sync::Arc;

use async_trait::async_trait;
use base::UserInfo;
use http::request::Parts;
use rustls::pki_types::CertificateDer;

pub use anonymous::Anonymous;
pub use client_cert::ClientCertificate;
pub use service_account::ServiceAccountTokens;
pub use token::{BearerTokens, TokenAuthenticator, TokenOutcome};
pub use token_file::TokenFile;

/// The leaf certificate that a client presented and TLS verified; an extension of its requests.
#[derive(Debug, Clone)]
pub struct PeerCertificate(pub Arc<CertificateDer<'static>>);

/// Says who a request is from, or that it does not know.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// `Ok(None)`: not my kind of credentials, ask the next. `Err`: credentials of my kind, but wrong; the request
    /// is refused unless another authenticator takes it.
    async fn authenticate(&self, request: &Parts) -> Result<Option<UserInfo>, AuthnError>;
}

/// Credentials that are wrong. The words go to the log, not to the client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct AuthnError(pub String);

/// Authenticators in order; the first that knows the user decides.
pub struct Chain(Vec<Arc<dyn Authenticator>>);

impl Chain {
    /// Asks them in this order.
    pub fn new(authenticators: Vec<Arc<dyn Authenticator>>) -> Self {
        Self(authenticators)
    }

    /// The user, or `None` when nobody knows one and the request must be refused.
    pub async fn authenticate(&self, request: &Parts) -> Option<UserInfo> {
        for authenticator in &self.0 {
            match authenticator.authenticate(request).await {
                Ok(Some(user)) => return Some(user),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "unable to authenticate the request");
                }
            }
        }
        None
    }
}

/// Adds the group that every authenticated user is in (`system:authenticated`), as upstream's group adder does.
pub fn with_authenticated_group(mut user: UserInfo) -> UserInfo {
    const AUTHENTICATED: &str = "system:authenticated";
    if user.name != "system:anonymous"
        && !user.groups.iter().any(|g| g == AUTHENTICATED || g == "system:unauthenticated")
    {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

/// The request's bearer token, if it has one.
pub fn bearer_token(request: &Parts) -> Option<&str> {
    let value = request.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
