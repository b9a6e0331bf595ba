//! Client certificates of `--client-ca-file`: common name and organizations.

use async_trait::async_trait;
use base::UserInfo;
use http::request::Parts;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Authenticator, AuthnError, PeerCertificate, with_authenticated_group};

/// Attribute of a subject that is taken as the user's UID (`AllowParsingUserUIDFromCertAuth`).
const UID_ATTRIBUTE: &str = "1.3.6.1.4.1.57683.2";

/// Takes the subject of the client's certificate as the user.
pub struct ClientCertificate;

#[async_trait]
impl Authenticator for ClientCertificate {
    async fn authenticate(&self, request: &Parts) -> Result<Option<UserInfo>, AuthnError> {
        let Some(peer) = request.extensions.get::<PeerCertificate>() else { return Ok(None) };
        peer.verdict.user.clone().map_err(AuthnError)?;
        let (name, groups) = pki::peer_identity(&peer.leaf)
            .ok_or_else(|| AuthnError("the client certificate has no common name".to_owned()))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &peer.leaf);
        let id: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let extra =
            [("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("X509SHA256={id}")])];
        let uid = uid(&peer.leaf);
        Ok(Some(with_authenticated_group(UserInfo { name, groups, extra: extra.into(), uid })))
    }
}

fn uid(leaf: &[u8]) -> String {
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return String::new() };
    let attributes = parsed.subject().iter_attributes();
    let own =
        |a: &&x509_parser::x509::AttributeTypeAndValue<'_>| a.attr_type().to_id_string() == UID_ATTRIBUTE;
    attributes.into_iter().find(own).and_then(|a| a.as_str().ok()).unwrap_or_default().to_owned()
}
