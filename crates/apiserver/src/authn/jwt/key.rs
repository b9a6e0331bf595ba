//! Keys of tokens: P-256 and RSA.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use schema::{Value, value};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

use crate::Error;

/// DER of the object identifier parts that precede a P-256 point in a SubjectPublicKeyInfo.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

enum Private {
    P256(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// Makes signatures.
pub struct Signer {
    private: Private,
    id: String,
    random: SystemRandom,
}

/// Checks signatures of one key.
#[derive(Debug, Clone)]
pub struct Verifier {
    /// The P-256 point, or the RSA key in PKCS#1.
    public: Vec<u8>,
    rsa: bool,
    id: String,
}

/// The key id as upstream makes it: the hash of the public key's PKIX form.
fn key_id(spki: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, spki))
}

impl Signer {
    /// Reads a private key: PKCS#8, PKCS#1 or SEC1 in PEM.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let wrong = |reason: &str| pki::Error::Content { path: path.to_owned(), reason: reason.to_owned() };
        let random = SystemRandom::new();
        let key = pki::read_key(path)?;
        let private = match &key {
            PrivateKeyDer::Pkcs8(der) => {
                let bytes = der.secret_pkcs8_der();
                match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes, &random) {
                    Ok(pair) => Private::P256(Box::new(pair)),
                    Err(_) => Private::Rsa(Box::new(
                        RsaKeyPair::from_pkcs8(bytes).map_err(|_| wrong("neither a P-256 nor an RSA key"))?,
                    )),
                }
            }
            PrivateKeyDer::Pkcs1(der) => Private::Rsa(Box::new(
                RsaKeyPair::from_der(der.secret_pkcs1_der())
                    .map_err(|_| wrong("not an RSA key of 2048 to 8192 bits"))?,
            )),
            _ => return Err(wrong("keys in SEC1 form are not supported; convert it to PKCS#8").into()),
        };
        let id = key_id(&spki(&private));
        Ok(Self { private, id, random })
    }

    /// `ES256` or `RS256`.
    pub fn algorithm(&self) -> &'static str {
        match self.private {
            Private::P256(_) => "ES256",
            Private::Rsa(_) => "RS256",
        }
    }

    /// The key id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key that checks its signatures.
    pub fn verifier(&self) -> Verifier {
        let (public, rsa) = match &self.private {
            Private::P256(pair) => (pair.public_key().as_ref().to_vec(), false),
            Private::Rsa(pair) => (pair.public_key().as_ref().to_vec(), true),
        };
        Verifier { public, rsa, id: self.id.clone() }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |_| Error::Flag {
            flag: "service-account-signing-key-file",
            reason: "the key cannot sign".to_owned(),
        };
        match &self.private {
            Private::P256(pair) => {
                pair.sign(&self.random, message).map(|s| s.as_ref().to_vec()).map_err(failed)
            }
            Private::Rsa(pair) => {
                let mut signature = vec![0; pair.public_key().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

/// The PKIX form of the public key.
fn spki(private: &Private) -> Vec<u8> {
    match private {
        Private::P256(pair) => [&P256_PREFIX[..], pair.public_key().as_ref()].concat(),
        Private::Rsa(pair) => rsa_spki(pair.public_key().as_ref()),
    }
}

/// Wraps a PKCS#1 key: SEQUENCE { SEQUENCE { rsaEncryption, NULL }, BIT STRING }.
fn rsa_spki(pkcs1: &[u8]) -> Vec<u8> {
    const ALGORITHM: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let mut bits = vec![0_u8];
    bits.extend_from_slice(pkcs1);
    let bits = tagged(0x03, &bits);
    tagged(0x30, &[&ALGORITHM[..], &bits].concat())
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=127 => out.push(short as u8),
        long => {
            let bytes: Vec<u8> = long.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
            out.push(0x80 | bytes.len() as u8);
            out.extend(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

impl Verifier {
    /// Reads every public key of a PEM file; of a private key its public half, of a certificate its key.
    pub fn load(path: &Path) -> Result<Vec<Self>, Error> {
        let text = std::fs::read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        let wrong = |reason: &str| pki::Error::Content { path: path.to_owned(), reason: reason.to_owned() };
        let keys: Vec<_> =
            rustls::pki_types::SubjectPublicKeyInfoDer::pem_slice_iter(&text).flatten().collect();
        if !keys.is_empty() {
            let parsed: Option<Vec<Self>> = keys.iter().map(|der| Self::from_spki(der.as_ref())).collect();
            return parsed.ok_or_else(|| wrong("holds a public key that is neither P-256 nor RSA").into());
        }
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text).flatten().collect();
        if !certificates.is_empty() {
            let key_of = |der: &CertificateDer<'_>| {
                let (_, certificate) = X509Certificate::from_der(der).ok()?;
                Self::from_spki(certificate.public_key().raw)
            };
            let keys: Option<Vec<Self>> = certificates.iter().map(key_of).collect();
            return keys
                .ok_or_else(|| wrong("holds a certificate whose key is neither P-256 nor RSA").into());
        }
        Ok(vec![Signer::load(path)?.verifier()])
    }

    fn from_spki(der: &[u8]) -> Option<Self> {
        let (_, parsed) = SubjectPublicKeyInfo::from_der(der).ok()?;
        let public = parsed.subject_public_key.data.to_vec();
        let rsa = match parsed.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.1" => true,
            "1.2.840.10045.2.1" if public.len() == 65 => false,
            _ => return None,
        };
        Some(Self { public, rsa, id: key_id(der) })
    }

    /// `ES256` or `RS256`.
    pub fn algorithm(&self) -> &'static str {
        if self.rsa { "RS256" } else { "ES256" }
    }

    /// The key id.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self.rsa {
            true => UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public)
                .verify(message, signature)
                .is_ok(),
            false => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.public)
                .verify(message, signature)
                .is_ok(),
        }
    }

    /// As an entry of a JSON web key set; None for an RSA key that cannot be read.
    pub fn to_jwk(&self) -> Option<Value> {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        if !self.rsa {
            let (x, y) = self.public.get(1..)?.split_at(32);
            return Some(value!({"use": "sig", "kty": "EC", "kid": (self.id.as_str()), "crv": "P-256",
                "alg": "ES256", "x": (text(x)), "y": (text(y))}));
        }
        let (_, key) = x509_parser::public_key::RSAPublicKey::from_der(&self.public).ok()?;
        let plain = |bytes: &[u8]| text(&bytes.iter().copied().skip_while(|b| *b == 0).collect::<Vec<_>>());
        Some(value!({"use": "sig", "kty": "RSA", "kid": (self.id.as_str()), "alg": "RS256",
            "n": (plain(key.modulus)), "e": (plain(key.exponent))}))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{JwtError, Parsed, sign};
    use super::*;

    #[test]
    fn a_signed_token_verifies_and_a_changed_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let (private, public) = (folder.path().join("sa.key"), folder.path().join("sa.pub"));
        pki::write_service_account_keys(&private, &public).unwrap();
        let signer = Signer::load(&private).unwrap();
        let keys = Verifier::load(&public).unwrap();
        assert_eq!(keys[0].id(), signer.id(), "both halves have the same id");
        let token = sign(&signer, &value!({"sub": "me"})).unwrap();
        let parsed = Parsed::parse(&token).unwrap();
        assert_eq!(parsed.claims.str_at("sub"), Some("me"));
        assert_eq!(parsed.verify(&keys), Ok(()));
        let (head, tail) = token.split_at(token.len() - 8);
        let changed = format!("{head}AAAA{}", &tail[4..]);
        assert_eq!(Parsed::parse(&changed).unwrap().verify(&keys), Err(JwtError::Signature));
        assert_eq!(Parsed::parse("a.b").unwrap_err(), JwtError::Malformed);
        assert_eq!(keys[0].to_jwk().unwrap().str_at("crv"), Some("P-256"));
    }
}
