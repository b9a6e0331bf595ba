//! Front proxies: whoever has a certificate of `--requestheader-client-ca-file` says by headers who the user is.

use std::collections::BTreeMap;

use async_trait::async_trait;
use base::UserInfo;
use http::HeaderMap;
use http::request::Parts;

use super::{Authenticator, AuthnError, PeerCertificate, with_authenticated_group};
use crate::Options;

/// Believes the headers of front proxies.
pub struct RequestHeader {
    allowed_names: Vec<String>,
    username: Vec<String>,
    uid: Vec<String>,
    group: Vec<String>,
    extra_prefix: Vec<String>,
}

impl RequestHeader {
    /// By the `--requestheader-*` flags; `None` without an authority.
    pub fn new(options: &Options) -> Option<Self> {
        options.requestheader_client_ca_file.as_ref()?;
        let lower = |names: &[String]| names.iter().map(|n| n.to_ascii_lowercase()).collect();
        Some(Self {
            allowed_names: options.requestheader_allowed_names.clone(),
            username: lower(&options.requestheader_username_headers),
            uid: lower(&options.requestheader_uid_headers),
            group: lower(&options.requestheader_group_headers),
            extra_prefix: lower(&options.requestheader_extra_headers_prefix),
        })
    }

    fn user(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let first = |names: &[String]| {
            let texts = names.iter().filter_map(|name| headers.get(name.as_str())?.to_str().ok());
            texts.map(str::trim).find(|text| !text.is_empty()).map(str::to_owned)
        };
        let name = first(&self.username)?;
        let groups = self.group.iter().flat_map(|name| headers.get_all(name.as_str()));
        let groups = groups.filter_map(|v| v.to_str().ok()).map(str::to_owned).collect();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for prefix in &self.extra_prefix {
            for (key, value) in headers {
                if let (Some(key), Ok(value)) = (key.as_str().strip_prefix(prefix.as_str()), value.to_str()) {
                    let key = crate::request::percent_decode(key, false);
                    extra.entry(key).or_default().push(value.to_owned());
                }
            }
        }
        Some(UserInfo { name, uid: first(&self.uid).unwrap_or_default(), groups, extra })
    }
}

#[async_trait]
impl Authenticator for RequestHeader {
    async fn authenticate(&self, request: &Parts) -> Result<Option<UserInfo>, AuthnError> {
        let Some(peer) = request.extensions.get::<PeerCertificate>() else { return Ok(None) };
        if peer.verdict.front_proxy.is_err() {
            return Ok(None);
        }
        let (name, _) = pki::peer_identity(&peer.leaf).unwrap_or_default();
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&name) {
            return Err(AuthnError(format!("x509: subject with cn={name} is not in the allowed list")));
        }
        Ok(self.user(&request.headers).map(with_authenticated_group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_the_user() {
        let options = Options {
            requestheader_client_ca_file: Some("ca".into()),
            requestheader_username_headers: vec!["X-Remote-User".to_owned()],
            requestheader_uid_headers: vec!["X-Remote-Uid".to_owned()],
            requestheader_group_headers: vec!["X-Remote-Group".to_owned()],
            requestheader_extra_headers_prefix: vec!["X-Remote-Extra-".to_owned()],
            ..Options::default()
        };
        let proxy = RequestHeader::new(&options).unwrap();
        let mut headers = HeaderMap::new();
        assert!(proxy.user(&headers).is_none());
        for (name, value) in [
            ("x-remote-user", "ann"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-extra-acme.com%2fproject", "p"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let user = proxy.user(&headers).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("ann", "7"));
        assert_eq!(user.groups, ["a", "b"]);
        assert_eq!(user.extra["acme.com/project"], ["p"]);
        assert!(RequestHeader::new(&Options::default()).is_none());
    }
}
