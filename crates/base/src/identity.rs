//! Who sends a request.

use std::collections::BTreeMap;

/// A user as the authenticators see one (`authentication.k8s.io` UserInfo).
///
/// Put into the extensions of an in-process request it is that request's identity: only code of this process can set
/// an extension, so the in-process transport needs no credentials. Authorization and admission follow all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// Unique name, e.g. `system:kube-scheduler`.
    pub name: String,
    /// Unique over time, empty if unknown.
    pub uid: String,
    /// Groups, `system:authenticated` included.
    pub groups: Vec<String>,
    /// Further facts from the authenticator, e.g. `authentication.kubernetes.io/pod-name`.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// An authenticated user with `groups` and `system:authenticated`.
    pub fn authenticated(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut all: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        all.push("system:authenticated".to_owned());
        Self { name: name.into(), groups: all, ..Self::default() }
    }
}
