//! Tokens: proofs that somebody knew a user's password a while ago.
//!
//! Both kinds are signed, so every member takes a token of any other. Simple ones are signed with a key that the
//! cluster made up, JSON Web Tokens with one that the operator gave and others can check.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair, RsaKeyPair, UnparsedPublicKey};
use rustls_pki_types::PrivateKeyDer;
use tonic::Status;

use super::state::AuthState;
use crate::status;

/// How long a simple token holds (`--auth-token-ttl`).
pub const SIMPLE_TTL: Duration = Duration::from_secs(300);
/// How long a JSON Web Token holds unless `ttl` says otherwise.
const JWT_TTL: Duration = Duration::from_secs(300);

/// How tokens are made (`--auth-token`).
#[derive(Debug, Clone)]
pub enum TokenKind {
    /// Signed by the cluster; they hold for this long.
    Simple(Duration),
    /// JSON Web Tokens.
    Jwt(Arc<JwtKeys>),
}

impl Default for TokenKind {
    fn default() -> Self {
        Self::Simple(SIMPLE_TTL)
    }
}

impl TokenKind {
    /// Reads upstream's flag: `simple`, or `jwt,priv-key=FILE,sign-method=RS256,ttl=10m`.
    ///
    /// # Errors
    /// A sentence that names what is wrong.
    pub fn parse(flag: &str, simple_ttl: Duration) -> Result<Self, String> {
        match flag.split_once(',') {
            None if flag == "simple" || flag.is_empty() => Ok(Self::Simple(simple_ttl)),
            Some(("jwt", options)) => Ok(Self::Jwt(Arc::new(JwtKeys::parse(options)?))),
            _ => Err(format!("--auth-token {flag:?} is neither simple nor jwt,…")),
        }
    }

    pub(super) fn issue(&self, user: &str, state: &AuthState) -> Result<String, Status> {
        match self {
            Self::Simple(ttl) => {
                let body = format!("{}.{}", URL_SAFE_NO_PAD.encode(user), seconds() + ttl.as_secs());
                let tag = hmac::sign(&simple_key(user, state)?, body.as_bytes());
                Ok(format!("{body}.{}", URL_SAFE_NO_PAD.encode(tag)))
            }
            Self::Jwt(keys) => keys.issue(user, state.revision),
        }
    }

    /// The user whom a token names, if it holds.
    pub(super) fn user(&self, token: &str, state: &AuthState) -> Result<String, Status> {
        match self {
            Self::Simple(_) => simple_user(token, state).ok_or_else(|| status::INVALID_TOKEN.into()),
            Self::Jwt(keys) => {
                let (user, revision) = keys.user(token).ok_or(status::INVALID_TOKEN)?;
                if revision < state.revision { Err(status::OLD_AUTH_REVISION.into()) } else { Ok(user) }
            }
        }
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A user's key changes with the password, so that old tokens end with it.
fn simple_key(user: &str, state: &AuthState) -> Result<hmac::Key, Status> {
    let user = state.users.get(user).ok_or(status::INVALID_TOKEN)?;
    let mut secret = state.token_key.to_vec();
    secret.extend_from_slice(user.password.salt());
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
}

fn simple_user(token: &str, state: &AuthState) -> Option<String> {
    let (body, tag) = token.rsplit_once('.')?;
    let (name, ends) = body.split_once('.')?;
    let user = String::from_utf8(URL_SAFE_NO_PAD.decode(name).ok()?).ok()?;
    let key = simple_key(&user, state).ok()?;
    hmac::verify(&key, body.as_bytes(), &URL_SAFE_NO_PAD.decode(tag).ok()?).ok()?;
    (ends.parse::<u64>().ok()? >= seconds()).then_some(user)
}

/// What JSON Web Tokens are signed and checked with.
pub struct JwtKeys {
    method: &'static str,
    ttl: Duration,
    key: SigningKey,
}

impl std::fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtKeys").field("method", &self.method).finish_non_exhaustive()
    }
}

enum SigningKey {
    Hmac(hmac::Key),
    Rsa(RsaKeyPair, &'static dyn signature::RsaEncoding, &'static signature::RsaParameters),
    Ecdsa(EcdsaKeyPair, &'static signature::EcdsaVerificationAlgorithm),
}

impl JwtKeys {
    fn parse(options: &str) -> Result<Self, String> {
        let (mut method, mut private, mut ttl) = ("", "", JWT_TTL);
        for option in options.split(',') {
            match option.split_once('=') {
                Some(("sign-method", value)) => method = value,
                Some(("priv-key", value)) => private = value,
                Some(("ttl", value)) => ttl = parse_ttl(value).ok_or_else(|| format!("jwt ttl {value:?}"))?,
                // What it says follows from the private key.
                Some(("pub-key", _)) => {}
                _ => return Err(format!("--auth-token jwt has no option {option:?}")),
            }
        }
        if private.is_empty() {
            return Err(
                "--auth-token jwt needs priv-key; checking alone (pub-key) is not supported".to_owned()
            );
        }
        let known = METHODS.iter().find(|known| **known == method);
        let method = known.ok_or_else(|| {
            format!("--auth-token jwt: sign-method {method:?} is not one of {}", METHODS.join(", "))
        })?;
        Ok(Self { method, ttl, key: SigningKey::read(method, Path::new(private))? })
    }

    fn issue(&self, user: &str, revision: u64) -> Result<String, Status> {
        let head = serde_json::json!({ "alg": self.method, "typ": "JWT" });
        let ends = seconds() + self.ttl.as_secs();
        let claims = serde_json::json!({ "username": user, "revision": revision, "exp": ends });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let body = format!("{}.{}", part(head), part(claims));
        let signed =
            self.key.sign(body.as_bytes()).ok_or_else(|| Status::internal("etcdserver: cannot sign"))?;
        Ok(format!("{body}.{}", URL_SAFE_NO_PAD.encode(signed)))
    }

    fn user(&self, token: &str) -> Option<(String, u64)> {
        let (body, signed) = token.rsplit_once('.')?;
        let (head, claims) = body.split_once('.')?;
        let json = |part: &str| -> Option<serde_json::Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        if json(head)?["alg"] != self.method {
            return None;
        }
        self.key.verify(body.as_bytes(), &URL_SAFE_NO_PAD.decode(signed).ok()?)?;
        let claims = json(claims)?;
        if claims["exp"].as_u64()? < seconds() {
            return None;
        }
        Some((claims["username"].as_str()?.to_owned(), claims["revision"].as_u64()?))
    }
}

/// Methods of signing that there are keys for.
const METHODS: &[&str] = &["RS256", "RS384", "RS512", "ES256", "ES384", "HS256", "HS384", "HS512"];

impl SigningKey {
    fn read(method: &str, file: &Path) -> Result<Self, String> {
        let wrong = |what: &str| format!("--auth-token jwt: {}: {what}", file.display());
        if let Some(bits) = method.strip_prefix("HS") {
            let secret = std::fs::read(file).map_err(|error| wrong(&error.to_string()))?;
            let algorithm = match bits {
                "384" => hmac::HMAC_SHA384,
                "512" => hmac::HMAC_SHA512,
                _ => hmac::HMAC_SHA256,
            };
            return Ok(Self::Hmac(hmac::Key::new(algorithm, &secret)));
        }
        let key = pki::read_key(file).map_err(|error| wrong(&error.to_string()))?;
        if method.starts_with("RS") {
            let pair = match &key {
                PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
                other => RsaKeyPair::from_pkcs8(other.secret_der()),
            };
            let pair = pair.map_err(|_| wrong("is no RSA key"))?;
            return Ok(match method {
                "RS384" => {
                    Self::Rsa(pair, &signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384)
                }
                "RS512" => {
                    Self::Rsa(pair, &signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512)
                }
                _ => Self::Rsa(pair, &signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
            });
        }
        let (sign, verify) = match method {
            "ES384" => (&signature::ECDSA_P384_SHA384_FIXED_SIGNING, &signature::ECDSA_P384_SHA384_FIXED),
            _ => (&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &signature::ECDSA_P256_SHA256_FIXED),
        };
        let pair = EcdsaKeyPair::from_pkcs8(sign, key.secret_der(), &SystemRandom::new());
        Ok(Self::Ecdsa(pair.map_err(|_| wrong("is no PKCS #8 key of that curve"))?, verify))
    }

    fn sign(&self, body: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(key) => Some(hmac::sign(key, body).as_ref().to_vec()),
            Self::Rsa(pair, encoding, _) => {
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(*encoding, &random, body, &mut signed).ok()?;
                Some(signed)
            }
            Self::Ecdsa(pair, _) => Some(pair.sign(&random, body).ok()?.as_ref().to_vec()),
        }
    }

    fn verify(&self, body: &[u8], signed: &[u8]) -> Option<()> {
        match self {
            Self::Hmac(key) => hmac::verify(key, body, signed).ok(),
            Self::Rsa(pair, _, parameters) => {
                UnparsedPublicKey::new(*parameters, pair.public_key()).verify(body, signed).ok()
            }
            Self::Ecdsa(pair, algorithm) => {
                UnparsedPublicKey::new(*algorithm, pair.public_key()).verify(body, signed).ok()
            }
        }
    }
}

/// Go's short form of a time: `90s`, `10m`, `2h`.
fn parse_ttl(text: &str) -> Option<Duration> {
    let (number, factor) = match text.as_bytes().last()? {
        b's' => (&text[..text.len() - 1], 1),
        b'm' => (&text[..text.len() - 1], 60),
        b'h' => (&text[..text.len() - 1], 3600),
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(factor)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::state::{Password, User};

    fn state() -> AuthState {
        let mut state = AuthState { token_key: vec![5; 32].into(), ..AuthState::default() };
        let user = User { password: Password::new("x").unwrap(), no_password: false, roles: Vec::new() };
        state.users.insert("kim".into(), user);
        state
    }

    #[test]
    fn a_simple_token_holds_until_the_password_changes() {
        let (kind, mut state) = (TokenKind::default(), state());
        let token = kind.issue("kim", &state).unwrap();
        assert_eq!(kind.user(&token, &state).unwrap(), "kim");
        assert!(kind.user(&token[1..], &state).is_err());
        assert!(kind.user("abc", &state).is_err());
        let old = TokenKind::Simple(Duration::ZERO);
        let mut gone = old.issue("kim", &state).unwrap();
        gone.push('x');
        assert!(kind.user(&gone, &state).is_err());
        state.users.get_mut("kim").unwrap().password = Password::new("x").unwrap();
        assert!(kind.user(&token, &state).is_err());
    }

    #[test]
    fn a_web_token_is_of_one_revision() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "secret").unwrap();
        let flag = format!("jwt,priv-key={},sign-method=HS256,ttl=10m", file.display());
        let (kind, mut state) = (TokenKind::parse(&flag, SIMPLE_TTL).unwrap(), state());
        let token = kind.issue("kim", &state).unwrap();
        assert_eq!(kind.user(&token, &state).unwrap(), "kim");
        state.revision += 1;
        assert_eq!(kind.user(&token, &state).unwrap_err().message(), status::OLD_AUTH_REVISION.1);
        assert!(TokenKind::parse("jwt,sign-method=RS256", SIMPLE_TTL).unwrap_err().contains("priv-key"));
        assert!(TokenKind::parse("opaque", SIMPLE_TTL).unwrap_err().contains("neither"));
    }
}
