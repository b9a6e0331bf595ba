//! The keys of an issuer: found by its discovery document, asked for again when a token is of an unknown one.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use schema::Value;
use tokio::sync::Mutex;

use crate::authn::jwt::Parsed;
use crate::outbound::Endpoint;

/// Time for one question.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An issuer is not asked more often than this, whatever tokens come.
const LEAST_PAUSE: Duration = Duration::from_secs(5);
/// Keys of an issuer at most.
const MAX_KEYS: usize = 256;

/// Signature algorithms that can be checked.
pub const ALGORITHMS: [&str; 8] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"];

/// One key of a JSON web key set.
#[derive(Debug, Clone)]
enum Key {
    Rsa { id: String, n: Vec<u8>, e: Vec<u8> },
    Ec { id: String, curve: String, point: Vec<u8> },
}

/// An issuer's keys.
pub struct KeySet {
    discovery: Endpoint,
    issuer: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Vec<Key>,
    asked: Option<Instant>,
}

impl KeySet {
    /// Of the issuer whose discovery document is at `discovery`. Nobody is asked before the first token comes.
    pub fn new(discovery: Endpoint, issuer: &str) -> Self {
        Self { discovery, issuer: issuer.to_owned(), state: Mutex::default() }
    }

    /// Checks a token's signature.
    pub async fn verify(&self, token: &Parsed<'_>) -> Result<(), String> {
        let mut state = self.state.lock().await;
        if state.keys.iter().any(|key| key.verify(token)) {
            return Ok(());
        }
        if state.asked.is_some_and(|at| at.elapsed() < LEAST_PAUSE) {
            return Err("failed to verify signature: no key of the issuer made it".to_owned());
        }
        state.asked = Some(Instant::now());
        state.keys = self.fetch().await?;
        match state.keys.iter().any(|key| key.verify(token)) {
            true => Ok(()),
            false => Err("failed to verify signature: no key of the issuer made it".to_owned()),
        }
    }

    async fn fetch(&self) -> Result<Vec<Key>, String> {
        let (document, _) = self.discovery.get_json(TIMEOUT).await.map_err(|e| e.to_string())?;
        let found = document.str_at("issuer").unwrap_or_default();
        if found != self.issuer {
            return Err(format!(
                "issuer did not match the issuer returned by provider, expected {:?} got {found:?}",
                self.issuer
            ));
        }
        let uri = document.str_at("jwks_uri").unwrap_or_default();
        let url: http::Uri = uri.parse().map_err(|e| format!("jwks_uri {uri:?}: {e}"))?;
        if url.scheme_str() != Some("https") {
            return Err(format!("jwks_uri {uri:?} is not https"));
        }
        let keys = Endpoint { url, ..self.discovery.clone() };
        let (keys, _) = keys.get_json(TIMEOUT).await.map_err(|e| e.to_string())?;
        Ok(keys.items_at("keys").iter().filter_map(Key::parse).take(MAX_KEYS).collect())
    }
}

impl Key {
    fn parse(key: &Value) -> Option<Self> {
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(key.str_at(name)?.trim_end_matches('=')).ok();
        if key.str_at("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        let id = key.str_at("kid").unwrap_or_default().to_owned();
        match key.str_at("kty")? {
            "RSA" => Some(Self::Rsa { id, n: bytes("n")?, e: bytes("e")? }),
            "EC" => {
                let point = [vec![4], bytes("x")?, bytes("y")?].concat();
                Some(Self::Ec { id, curve: key.str_at("crv")?.to_owned(), point })
            }
            _ => None,
        }
    }

    fn verify(&self, token: &Parsed<'_>) -> bool {
        let algorithm = token.header.str_at("alg").unwrap_or_default();
        let wanted = token.header.str_at("kid").unwrap_or_default();
        let (signed, signature) = token.signed_parts();
        match self {
            Self::Rsa { id, n, e } => {
                let Some(parameters) = rsa(algorithm) else { return false };
                (wanted.is_empty() || id == wanted)
                    && RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }
            Self::Ec { id, curve, point } => {
                let with: &'static dyn VerificationAlgorithm = match (algorithm, curve.as_str()) {
                    ("ES256", "P-256") => &ECDSA_P256_SHA256_FIXED,
                    ("ES384", "P-384") => &ECDSA_P384_SHA384_FIXED,
                    _ => return false,
                };
                (wanted.is_empty() || id == wanted)
                    && UnparsedPublicKey::new(with, point).verify(signed, signature).is_ok()
            }
        }
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        "PS384" => &RSA_PSS_2048_8192_SHA384,
        "PS512" => &RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}
