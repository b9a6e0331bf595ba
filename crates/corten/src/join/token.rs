//! Bootstrap tokens, `ID.SECRET`: what a machine shows that wants to join, and what it knows the cluster by.

use std::fmt;
use std::io::Read;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
/// 32 of the 36 characters that a token may have: five random bits choose one evenly.
const CHARACTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Where tokens are kept, and how their Secrets are named.
pub const NAMESPACE: &str = "kube-system";
/// See [`NAMESPACE`].
pub const SECRET_PREFIX: &str = "bootstrap-token-";
/// The type of their Secrets.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// Who shows a token that lets a kubelet ask for its certificate (kubeadm's group).
pub const NODES: &str = "system:bootstrappers:kubeadm:default-node-token";
/// Who shows a token that lets a machine join as a control plane, and so hear the authorities' keys.
pub const CONTROL_PLANES: &str = "system:bootstrappers:corten:control-plane";

/// A bootstrap token. Printing it for debugging shows its id alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

impl Token {
    /// A new one from the system's generator.
    pub fn generate() -> anyhow::Result<Self> {
        let mut bytes = [0; ID_LENGTH + SECRET_LENGTH];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let text: String = bytes.iter().map(|byte| CHARACTERS[usize::from(byte % 32)] as char).collect();
        let (id, secret) = text.split_at(ID_LENGTH);
        Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// The public part.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret part.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Both, as commands and headers have it.
    pub fn full(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// The Secret by which API servers know it for `ttl` (zero: for ever).
    pub fn object(&self, ttl: Duration, groups: &[&str], description: &str) -> Value {
        let mut data = json!({
            "token-id": self.id,
            "token-secret": self.secret,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": groups.join(","),
            "description": description,
        });
        if !ttl.is_zero() {
            let ends = Timestamp::try_from(SystemTime::now() + ttl).unwrap_or(Timestamp::MAX);
            data["expiration"] = ends.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        }
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
            "metadata": {"name": format!("{SECRET_PREFIX}{}", self.id), "namespace": NAMESPACE},
            "stringData": data,
        })
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |part: &str, length| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        match text.split_once('.') {
            Some((id, secret)) if plain(id, ID_LENGTH) && plain(secret, SECRET_LENGTH) => {
                Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
            }
            _ => Err("a token is six and sixteen lowercase letters and digits with a dot between".to_owned()),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.…", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_and_made() {
        let token = Token::generate().unwrap();
        assert_eq!(token.full().parse(), Ok(token.clone()));
        assert_ne!(token, Token::generate().unwrap());
        assert!(!format!("{token:?}").contains(token.secret()));
        for wrong in ["", "abcdef", "abcdef.0123", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef0"] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_for_ever_has_no_expiration() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let object = token.object(Duration::ZERO, &[NODES], "");
        assert_eq!(object["metadata"]["name"], "bootstrap-token-abcdef");
        assert!(object["stringData"]["expiration"].is_null());
        let object = token.object(Duration::from_secs(60), &[NODES, CONTROL_PLANES], "");
        assert!(object["stringData"]["expiration"].as_str().is_some_and(|text| text.ends_with('Z')));
        assert_eq!(object["stringData"]["auth-extra-groups"], format!("{NODES},{CONTROL_PLANES}"));
    }
}
