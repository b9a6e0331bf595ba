//! Who sends a request: authenticators asked in order, then impersonation.

mod anonymous;
pub mod bootstrap_token;
mod client_cert;
pub(crate) mod impersonation;
pub mod jwt;
pub mod oidc;
mod request_header;
pub mod service_account;
mod setup;
mod token;
mod token_file;
mod webhook;

use std::sync::Arc;

use async_trait::async_trait;
use base::UserInfo;
use http::request::Parts;
use rustls::pki_types::CertificateDer;

pub use anonymous::Anonymous;
pub use client_cert::ClientCertificate;
pub use request_header::RequestHeader;
pub use service_account::ServiceAccountTokens;
pub use setup::authenticators;
pub use token::{BearerTokens, TokenAuthenticator, TokenOutcome};
pub use token_file::TokenFile;

/// The leaf certificate that a client presented, whose key it has; an extension of its requests.
#[derive(Debug, Clone)]
pub struct PeerCertificate {
    /// DER.
    pub leaf: Arc<CertificateDer<'static>>,
    /// Which authorities signed it.
    pub verdict: Arc<crate::tls::Verdict>,
}

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
pub struct Chain {
    all: Vec<Arc<dyn Authenticator>>,
    anonymous: Option<Anonymous>,
}

impl Chain {
    /// Asks them in this order; a request without any credentials is `anonymous`, if that is allowed.
    pub fn new(all: Vec<Arc<dyn Authenticator>>, anonymous: Option<Anonymous>) -> Self {
        Self { all, anonymous }
    }

    /// The user, or `None` when nobody knows one and the request must be refused.
    pub async fn authenticate(&self, request: &Parts) -> Option<UserInfo> {
        let mut refused = false;
        for authenticator in &self.all {
            match authenticator.authenticate(request).await {
                Ok(Some(user)) => return Some(user),
                Ok(None) => {}
                Err(error) => {
                    refused = true;
                    tracing::warn!(%error, "unable to authenticate the request");
                }
            }
        }
        // Wrong credentials must not turn into no credentials.
        self.anonymous.as_ref().filter(|_| !refused)?.user(request)
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
