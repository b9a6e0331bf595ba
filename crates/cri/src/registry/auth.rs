//! Credentials, and the challenges that ask for them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::cri::v1::AuthConfig;

use crate::error::{Error, Result};

/// What a pull authenticates with.
#[derive(Clone)]
pub enum Credentials {
    /// User name and password.
    Basic(String, String),
    /// A refresh token, to be exchanged at the registry's token server.
    Identity(String),
    /// A token for the registry itself.
    Registry(String),
}

impl Credentials {
    /// The credentials in a pull request that are for the registry `domain`.
    pub fn from_auth_config(auth: Option<&AuthConfig>, domain: &str) -> Result<Option<Self>> {
        let Some(auth) = auth else { return Ok(None) };
        if !auth.server_address.is_empty() && !same_server(&auth.server_address, domain) {
            return Ok(None);
        }
        if !auth.username.is_empty() {
            return Ok(Some(Self::Basic(auth.username.clone(), auth.password.clone())));
        }
        if !auth.identity_token.is_empty() {
            return Ok(Some(Self::Identity(auth.identity_token.clone())));
        }
        if !auth.auth.is_empty() {
            let invalid = || Error::InvalidArgument("invalid auth: not base64 of user:password".to_owned());
            let text = STANDARD.decode(auth.auth.trim()).map_err(|_| invalid())?;
            let text = String::from_utf8(text).map_err(|_| invalid())?;
            let (user, password) = text.split_once(':').ok_or_else(invalid)?;
            return Ok(Some(Self::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned())));
        }
        if !auth.registry_token.is_empty() {
            return Ok(Some(Self::Registry(auth.registry_token.clone())));
        }
        Ok(None)
    }

    /// The header for HTTP's basic authentication, where these credentials have one.
    pub fn basic_header(&self) -> Option<String> {
        match self {
            Self::Basic(user, password) => {
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            _ => None,
        }
    }
}

fn same_server(address: &str, domain: &str) -> bool {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or(host);
    let hub = |h: &str| matches!(h, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    host == domain || (hub(host) && hub(domain))
}

/// What a `WWW-Authenticate` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// The token server's URL.
        realm: String,
        /// Whom the token is for.
        service: String,
        /// What the token is to allow.
        scope: String,
    },
}

impl Challenge {
    /// Parses a header; `None` if it asks for something else.
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, String::new(), String::new());
        for (key, value) in parameters(rest) {
            match key.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = value,
                "scope" => scope = value,
                _ => {}
            }
        }
        realm.map(|realm| Self::Bearer { realm, service, scope })
    }
}

/// `a="b c",d=e` as pairs. Commas inside of quotes belong to the value.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').map_or((after, ""), |(v, n)| (v.trim(), n)),
        };
        pairs.push((key.trim().to_owned(), value.to_owned()));
        rest = next.trim_start().trim_start_matches(',').trim_start();
    }
    pairs
}

/// The token in a token server's answer.
pub fn token_of(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let field = |name: &str| value.get(name).and_then(|t| t.as_str()).filter(|t| !t.is_empty());
    field("token").or_else(|| field("access_token")).map(str::to_owned)
}

/// Percent-encodes a query value.
pub fn query_escape(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut out, b| {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(b as char);
        } else {
            let _ = write!(out, "%{b:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let header =
            r#"Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push""#;
        let expect = Challenge::Bearer {
            realm: "https://auth.example/token".to_owned(),
            service: "reg".to_owned(),
            scope: "repository:a/b:pull,push".to_owned(),
        };
        assert_eq!(Challenge::parse(header), Some(expect));
        assert_eq!(Challenge::parse(r#"Basic realm="x""#), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate"), None);
    }

    #[test]
    fn credentials_go_to_their_server_alone() {
        let auth = AuthConfig {
            auth: STANDARD.encode("u:p:q"),
            server_address: "https://index.docker.io/v1/".to_owned(),
            ..Default::default()
        };
        let found = |domain| Credentials::from_auth_config(Some(&auth), domain).unwrap();
        assert!(matches!(found("docker.io"), Some(Credentials::Basic(u, p)) if u == "u" && p == "p:q"));
        assert!(found("evil.example").is_none());
        let bad = AuthConfig { auth: "%%".to_owned(), ..Default::default() };
        assert!(Credentials::from_auth_config(Some(&bad), "docker.io").is_err());
    }
}
