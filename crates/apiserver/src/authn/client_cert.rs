//! Client certificates verified by TLS: common name and organizations.

use async_trait::async_trait;
use base::UserInfo;
use http::request::Parts;

use super::{Authenticator, AuthnError, PeerCertificate, with_authenticated_group};

/// Takes the subject of the verified client certificate as the user.
pub struct ClientCertificate;

#[async_trait]
impl Authenticator for ClientCertificate {
    async fn authenticate(&self, request: &Parts) -> Result<Option<UserInfo>, AuthnError> {
        let Some(PeerCertificate(certificate)) = request.extensions.get() else { return Ok(None) };
        let (name, groups) = pki::peer_identity(certificate)
            .ok_or_else(|| AuthnError("the client certificate has no common name".to_owned()))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        let id: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let extra =
            [("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("X509SHA256={id}")])];
        Ok(Some(with_authenticated_group(UserInfo {
            name,
            groups,
            extra: extra.into(),
            ..UserInfo::default()
        })))
    }
}
