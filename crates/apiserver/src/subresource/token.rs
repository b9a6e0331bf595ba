//! Service-account tokens.

use std::net::SocketAddr;

use async_trait::async_trait;
use schema::Value;

use crate::status::ApiResult;

/// What a service-account token says.
#[derive(Debug, Clone, Default)]
pub struct TokenClaims {
    /// Namespace of the service account.
    pub namespace: String,
    /// Its name.
    pub service_account: String,
    /// Its uid.
    pub uid: String,
    /// Whom the token is for; never empty.
    pub audiences: Vec<String>,
    /// How long it is good for, in seconds.
    pub expires_in_s: i64,
    /// The object whose end ends the token: kind (`Pod`, `Node`, `Secret`), name, uid.
    pub bound_to: Option<(String, String, String)>,
    /// The node of the pod it is bound to: name, uid.
    pub node: Option<(String, String)>,
    /// When upstream would warn that the token is used past the time asked for, seconds from now.
    pub warn_after_s: Option<i64>,
}

/// A token as issued.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The JWT.
    pub token: String,
    /// When it ends, seconds since the epoch.
    pub expires_at: i64,
}

/// Signs service-account tokens and publishes how to verify them.
#[async_trait]
pub trait TokenIssuer: Send + Sync + 'static {
    /// Makes a token.
    async fn issue(&self, claims: &TokenClaims) -> ApiResult<IssuedToken>;

    /// The audiences that tokens have when none are asked for.
    fn default_audiences(&self) -> Vec<String>;

    /// `/openid/v1/jwks`
    fn jwks(&self) -> Value;

    /// `/.well-known/openid-configuration`; `address` is where the keys are served.
    fn openid_configuration(&self, address: SocketAddr) -> Value;
}
