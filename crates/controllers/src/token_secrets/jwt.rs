//! Tokens of service accounts as they were before they expired: signed claims in a Secret.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::json;
use sha2::{Digest, Sha256};

/// Who issues tokens that live in Secrets.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// What precedes a P-256 point in the DER of a public key.
const P256_SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The algorithm `rsaEncryption` with its null parameters, in DER.
const RSA_ALGORITHM: [u8; 15] =
    [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Signs tokens.
pub enum Signer {
    /// ES256.
    Ec(EcdsaKeyPair, SystemRandom),
    /// RS256.
    Rsa(RsaKeyPair, SystemRandom),
}

/// What a token says of its bearer.
pub struct Claims<'a> {
    /// Namespace of the account and the Secret.
    pub namespace: &'a str,
    /// Name of the Secret.
    pub secret: &'a str,
    /// Name of the account.
    pub account: &'a str,
    /// Uid of the account.
    pub uid: &'a str,
}

impl Signer {
    /// From a private key in DER: PKCS#8, or PKCS#1 for RSA.
    pub fn new(der: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random) {
            return Some(Self::Ec(pair, random));
        }
        let pair = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).ok()?;
        Some(Self::Rsa(pair, random))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Ec(..) => "ES256",
            Self::Rsa(..) => "RS256",
        }
    }

    /// The hash of the public key, by which verifiers find it.
    fn key_id(&self) -> String {
        let spki = match self {
            Self::Ec(pair, _) => [&P256_SPKI_PREFIX, pair.public_key().as_ref()].concat(),
            Self::Rsa(pair, _) => {
                let key = pair.public_key().as_ref();
                let bits = der(0x03, &[&[0][..], key].concat());
                der(0x30, &[&RSA_ALGORITHM[..], &bits].concat())
            }
        };
        base64url(&Sha256::digest(spki))
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Ec(pair, random) => Some(pair.sign(random, message).ok()?.as_ref().to_vec()),
            Self::Rsa(pair, random) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, random, message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }

    /// A token that does not expire. None if the system gives no randomness.
    pub fn token(&self, claims: &Claims<'_>) -> Option<String> {
        let header = json!({"alg": self.algorithm(), "kid": self.key_id()});
        let claims = json!({
            "iss": LEGACY_ISSUER,
            "kubernetes.io/serviceaccount/namespace": claims.namespace,
            "kubernetes.io/serviceaccount/secret.name": claims.secret,
            "kubernetes.io/serviceaccount/service-account.name": claims.account,
            "kubernetes.io/serviceaccount/service-account.uid": claims.uid,
            "sub": format!("system:serviceaccount:{}:{}", claims.namespace, claims.account),
        });
        let message = format!(
            "{}.{}",
            base64url(header.to_string().as_bytes()),
            base64url(claims.to_string().as_bytes())
        );
        let signature = self.sign(message.as_bytes())?;
        Some(format!("{message}.{}", base64url(&signature)))
    }
}

/// A DER element with its length.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend(content);
    out
}

/// Base64 for URLs, without padding.
pub fn base64url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    #[test]
    fn a_token_verifies_with_its_key() {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let signer = Signer::new(pkcs8.as_ref()).unwrap();
        let claims = Claims { namespace: "ns", secret: "s", account: "a", uid: "u" };
        let token = signer.token(&claims).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        use base64::Engine;
        let signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature).unwrap();
        let Signer::Ec(pair, _) = &signer else { panic!() };
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
        assert!(key.verify(message.as_bytes(), &signature).is_ok());
        assert_eq!(der(4, &[0; 200])[..3], [4, 0x81, 200]);
    }
}
