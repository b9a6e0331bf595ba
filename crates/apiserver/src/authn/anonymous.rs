//! Requests without credentials.

use base::UserInfo;
use http::request::Parts;

/// Takes a request without any credentials as `system:anonymous`. Comes last.
#[derive(Debug, Clone, Default)]
pub struct Anonymous {
    /// Paths for which that is so; empty: all (`AuthenticationConfiguration.anonymous.conditions`).
    pub paths: Vec<String>,
}

impl Anonymous {
    /// The user of a request in which nobody knew credentials; those of other schemes than `Bearer` do not count.
    pub fn user(&self, request: &Parts) -> Option<UserInfo> {
        if !self.paths.is_empty() && !self.paths.iter().any(|path| path == request.uri.path()) {
            return None;
        }
        Some(UserInfo {
            name: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            ..UserInfo::default()
        })
    }
}
