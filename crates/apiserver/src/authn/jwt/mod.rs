//! Signed JSON web tokens: ES256 and RS256, as service-account tokens use them.

mod key;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use schema::Value;

pub use key::{Signer, Verifier};

/// Why a text is no token we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Not three parts of base64url JSON.
    #[error("not a signed JSON web token")]
    Malformed,
    /// No key of ours made the signature.
    #[error("invalid signature")]
    Signature,
}

/// A token taken apart; nothing of it is verified yet.
#[derive(Debug)]
pub struct Parsed<'a> {
    /// What was signed: both parts with the dot between them.
    signed: &'a str,
    signature: Vec<u8>,
    /// The header.
    pub header: Value,
    /// The claims.
    pub claims: Value,
}

impl<'a> Parsed<'a> {
    /// Takes a compact token apart.
    pub fn parse(token: &'a str) -> Result<Self, JwtError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| JwtError::Malformed);
        let object = |bytes: Vec<u8>| -> Result<Value, JwtError> {
            let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_| JwtError::Malformed)?;
            if json.is_object() { Ok(Value::from(json)) } else { Err(JwtError::Malformed) }
        };
        Ok(Self {
            signed,
            signature: decode(signature)?,
            header: object(decode(header)?)?,
            claims: object(decode(claims)?)?,
        })
    }

    /// What was signed, and the signature.
    pub fn signed_parts(&self) -> (&[u8], &[u8]) {
        (self.signed.as_bytes(), &self.signature)
    }

    /// Checks the signature against every key that the header's algorithm and key id allow.
    pub fn verify(&self, keys: &[Verifier]) -> Result<(), JwtError> {
        let algorithm = self.header.str_at("alg").unwrap_or_default();
        let id = self.header.str_at("kid").unwrap_or_default();
        let fits = |key: &&Verifier| key.algorithm() == algorithm && (id.is_empty() || key.id() == id);
        let made = |key: &Verifier| key.verify(self.signed.as_bytes(), &self.signature);
        // A key of another id may be the same key under an older name.
        let found = keys.iter().filter(fits).any(made)
            || keys.iter().filter(|k| k.algorithm() == algorithm).any(made);
        if found { Ok(()) } else { Err(JwtError::Signature) }
    }
}

/// Makes the compact token of `claims`.
pub fn sign(signer: &Signer, claims: &Value) -> Result<String, crate::Error> {
    let header = schema::value!({"alg": (signer.algorithm()), "kid": (signer.id())});
    let encode = |value: &Value| {
        let json = serde_json::to_vec(value).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(json)
    };
    let signed = format!("{}.{}", encode(&header), encode(claims));
    let signature = signer.sign(signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
