//! Requests without credentials.

use async_trait::async_trait;
use base::UserInfo;
use http::request::Parts;

use super::{Authenticator, AuthnError};

/// Takes a request without any credentials as `system:anonymous`. Comes last.
pub struct Anonymous;

#[async_trait]
impl Authenticator for Anonymous {
    async fn authenticate(&self, request: &Parts) -> Result<Option<UserInfo>, AuthnError> {
        if request.headers.contains_key(http::header::AUTHORIZATION) {
            // Wrong credentials must not turn into no credentials.
            return Ok(None);
        }
        Ok(Some(UserInfo {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            ..UserInfo::default()
        }))
    }
}
