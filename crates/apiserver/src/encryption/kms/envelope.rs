//! The stored form of a value: an `EncryptedObject` that carries the encrypted source of its data key, and the data
//! keys themselves (KEP-3299).

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::kms::v2::{EncryptedDekSourceType as SourceType, EncryptedObject};
use ring::aead::{AES_256_GCM, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk};

use super::service::Annotations;
use crate::encryption::ciphers::{Cipher, random, too_short};

/// Bytes of a seed, and of what each value's key is derived with.
pub const SEED: usize = 32;
const INFO: usize = 32;
/// Upstream's limits: `KeyIDMaxSize`, `encryptedDEKSourceMaxSize`, `annotationsMaxSize`.
const MAX_KEY_ID: usize = 1024;
const MAX_SOURCE: usize = 1024;
const MAX_ANNOTATIONS: usize = 32 * 1024;

/// What the plaintext of a source gives.
pub enum DataKey {
    /// A key of its own for every value, derived from a seed by HKDF-SHA256 and 32 random bytes.
    Seed(Prk),
    /// One AES-GCM key, as servers before v1.29 wrote; only read.
    Direct(Cipher),
}

impl DataKey {
    /// From the plaintext that the plugin gave.
    pub fn new(source: &[u8], of: SourceType) -> Result<Self, String> {
        match of {
            SourceType::HkdfSha256XnonceAesGcmSeed if source.len() < SEED => {
                Err(format!("invalid seed length {} used for key generation", source.len()))
            }
            SourceType::HkdfSha256XnonceAesGcmSeed => Ok(Self::Seed(Prk::new_less_safe(HKDF_SHA256, source))),
            SourceType::AesGcmKey => Cipher::gcm(source).map(Self::Direct),
        }
    }

    /// Encrypts; `context` is the storage key.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Seed(seed) => {
                let info: [u8; INFO] = random()?;
                Ok([&info[..], &derived(seed, &info)?.seal(context, plain)?].concat())
            }
            Self::Direct(cipher) => cipher.seal(context, plain),
        }
    }

    /// Decrypts.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Seed(seed) => {
                let (info, body) = sealed.split_at_checked(INFO).ok_or_else(too_short)?;
                derived(seed, info)?.open(context, body)
            }
            Self::Direct(cipher) => cipher.open(context, sealed),
        }
    }
}

fn derived(seed: &Prk, info: &[u8]) -> Result<Cipher, String> {
    let info = [info];
    let key =
        seed.expand(&info, &AES_256_GCM).map_err(|_| "failed to KDF expand seed with info".to_owned())?;
    Ok(Cipher::of_gcm_key(UnboundKey::from(key)))
}

/// What upstream demands of a stored value.
pub fn validate(object: &EncryptedObject) -> Result<(), String> {
    if SourceType::try_from(object.encrypted_dek_source_type).is_err() {
        return Err(format!("unknown encryptedDEKSourceType: {}", object.encrypted_dek_source_type));
    }
    if object.encrypted_data.is_empty() {
        return Err("encrypted data is empty".to_owned());
    }
    let source = object.encrypted_dek_source.len();
    if source == 0 {
        return Err("failed to validate encrypted DEK source: encrypted DEK source is empty".to_owned());
    }
    if source > MAX_SOURCE {
        return Err(format!(
            "failed to validate encrypted DEK source: encrypted DEK source is {source} bytes, which exceeds the max \
             size of {MAX_SOURCE}"
        ));
    }
    validate_key_id(&object.key_id).map_err(|e| format!("failed to validate key id: {e}"))?;
    validate_annotations(&object.annotations).map_err(|e| format!("failed to validate annotations: {e}"))
}

/// Whether a key id is there and short enough.
pub fn validate_key_id(id: &str) -> Result<(), String> {
    match id.len() {
        0 => Err("keyID is empty".to_owned()),
        n if n > MAX_KEY_ID => Err(format!("keyID is {n} bytes, which exceeds the max size of {MAX_KEY_ID}")),
        _ => Ok(()),
    }
}

fn validate_annotations(annotations: &Annotations) -> Result<(), String> {
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        !label.is_empty()
            && label.bytes().all(|b| inner(b) || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    for name in annotations.keys() {
        if name.split('.').count() < 2 || !name.split('.').all(is_label) {
            return Err(format!(
                "annotations: Invalid value: {name:?}: should be a domain with at least two segments separated by dots"
            ));
        }
    }
    let size: usize = annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_ANNOTATIONS {
        return Err(format!(
            "total size of annotations is {size}, which exceeds the max size of {MAX_ANNOTATIONS}"
        ));
    }
    Ok(())
}

/// What names a source of data keys: everything that the plugin is given to decrypt it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceId {
    of: i32,
    source: Bytes,
    key_id: String,
    annotations: BTreeMap<String, Bytes>,
}

impl SourceId {
    /// The source of a value.
    pub fn of(object: &EncryptedObject) -> Self {
        // Copied: what is stored is a part of much larger values.
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        Self {
            of: object.encrypted_dek_source_type,
            source: copy(&object.encrypted_dek_source),
            key_id: object.key_id.clone(),
            annotations: object.annotations.iter().map(|(k, v)| (k.clone(), copy(v))).collect(),
        }
    }
}

/// `sha256:HEX` of a key id, as errors name it; nothing for an empty one.
pub fn hash(id: &str) -> String {
    if id.is_empty() {
        return String::new();
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, id.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
