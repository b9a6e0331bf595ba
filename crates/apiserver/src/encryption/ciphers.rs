//! Upstream's encrypted forms: `k8s:enc:PROVIDER:v1:KEYNAME:` and what the cipher gives.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use aes_gcm::AesGcm;
use aes_gcm::aead::{Payload, consts::U12};
use crypto_secretbox::aead::{Aead, KeyInit};
use crypto_secretbox::{Nonce as BoxNonce, XSalsa20Poly1305};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

const BLOCK: usize = 16;
const BOX_NONCE: usize = 24;

type Gcm192 = AesGcm<aes::Aes192, U12>;

/// A cipher with its key.
pub enum Cipher {
    /// AES-GCM with a random nonce; the storage key is authenticated as well.
    Gcm(Box<LessSafeKey>),
    /// The same with a key of 24 bytes.
    Gcm192(Box<Gcm192>),
    /// AES-CBC with PKCS#7 padding; nothing is authenticated.
    Cbc(Vec<u8>),
    /// XSalsa20 and Poly1305.
    SecretBox(Box<XSalsa20Poly1305>),
}

/// Random bytes.
pub fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "no random numbers".to_owned())?;
    Ok(bytes)
}

/// What upstream says of a value that cannot be complete.
pub fn too_short() -> String {
    "the stored data was shorter than the required size".to_owned()
}

fn not_authentic() -> String {
    "cipher: message authentication failed".to_owned()
}

impl Cipher {
    /// AES-GCM with a key of any length that `ring` has.
    pub fn of_gcm_key(key: UnboundKey) -> Self {
        Self::Gcm(Box::new(LessSafeKey::new(key)))
    }

    /// `aesgcm` with a key of 16, 24 or 32 bytes.
    pub fn gcm(key: &[u8]) -> Result<Self, String> {
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            32 => &AES_256_GCM,
            24 => {
                let key = Gcm192::new_from_slice(key).map_err(|_| "the key cannot be used".to_owned())?;
                return Ok(Self::Gcm192(Box::new(key)));
            }
            n => {
                return Err(format!(
                    "secret is not of the expected length, got {n}, expected one of [16 24 32]"
                ));
            }
        };
        let key = UnboundKey::new(algorithm, key).map_err(|_| "the key cannot be used".to_owned())?;
        Ok(Self::of_gcm_key(key))
    }

    /// `aescbc` with a key of 16, 24 or 32 bytes.
    pub fn cbc(key: &[u8]) -> Result<Self, String> {
        match key.len() {
            16 | 24 | 32 => Ok(Self::Cbc(key.to_vec())),
            n => Err(format!("secret is not of the expected length, got {n}, expected one of [16 24 32]")),
        }
    }

    /// `secretbox` with a key of 32 bytes.
    pub fn secret_box(key: &[u8]) -> Result<Self, String> {
        let cipher = XSalsa20Poly1305::new_from_slice(key).map_err(|_| {
            format!("secret is not of the expected length, got {}, expected one of [32]", key.len())
        })?;
        Ok(Self::SecretBox(Box::new(cipher)))
    }

    /// Encrypts; `context` is the storage key.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Gcm(key) => {
                let nonce: [u8; NONCE_LEN] = random()?;
                let mut body = plain.to_vec();
                key.seal_in_place_append_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(context),
                    &mut body,
                )
                .map_err(|_| "encrypt".to_owned())?;
                Ok([&nonce[..], &body].concat())
            }
            Self::Gcm192(key) => {
                let nonce: [u8; NONCE_LEN] = random()?;
                let body = key.encrypt(&nonce.into(), Payload { msg: plain, aad: context });
                Ok([&nonce[..], &body.map_err(|_| "encrypt".to_owned())?].concat())
            }
            Self::Cbc(key) => {
                let iv: [u8; BLOCK] = random()?;
                let wrong = |_| "encrypt".to_owned();
                let body = match key.len() {
                    16 => cbc::Encryptor::<aes::Aes128>::new_from_slices(key, &iv)
                        .map_err(wrong)?
                        .encrypt_padded_vec_mut::<Pkcs7>(plain),
                    24 => cbc::Encryptor::<aes::Aes192>::new_from_slices(key, &iv)
                        .map_err(wrong)?
                        .encrypt_padded_vec_mut::<Pkcs7>(plain),
                    _ => cbc::Encryptor::<aes::Aes256>::new_from_slices(key, &iv)
                        .map_err(wrong)?
                        .encrypt_padded_vec_mut::<Pkcs7>(plain),
                };
                Ok([&iv[..], &body].concat())
            }
            Self::SecretBox(cipher) => {
                let nonce: [u8; BOX_NONCE] = random()?;
                let body =
                    cipher.encrypt(BoxNonce::from_slice(&nonce), plain).map_err(|_| "encrypt".to_owned())?;
                Ok([&nonce[..], &body].concat())
            }
        }
    }

    /// Decrypts what [`Cipher::seal`] gave.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Gcm(key) => {
                let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(too_short)?;
                let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| too_short())?;
                let mut body = body.to_vec();
                let plain = key.open_in_place(nonce, Aad::from(context), &mut body);
                plain.map(|p| p.to_vec()).map_err(|_| not_authentic())
            }
            Self::Gcm192(key) => {
                let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(too_short)?;
                let nonce = <[u8; NONCE_LEN]>::try_from(nonce).map_err(|_| too_short())?;
                key.decrypt(&nonce.into(), Payload { msg: body, aad: context }).map_err(|_| not_authentic())
            }
            Self::Cbc(key) => {
                let (iv, body) = sealed.split_at_checked(BLOCK).ok_or_else(too_short)?;
                let opened = match key.len() {
                    16 => cbc::Decryptor::<aes::Aes128>::new_from_slices(key, iv)
                        .map_err(|_| too_short())?
                        .decrypt_padded_vec_mut::<Pkcs7>(body),
                    24 => cbc::Decryptor::<aes::Aes192>::new_from_slices(key, iv)
                        .map_err(|_| too_short())?
                        .decrypt_padded_vec_mut::<Pkcs7>(body),
                    _ => cbc::Decryptor::<aes::Aes256>::new_from_slices(key, iv)
                        .map_err(|_| too_short())?
                        .decrypt_padded_vec_mut::<Pkcs7>(body),
                };
                opened.map_err(|_| "invalid padding on input".to_owned())
            }
            Self::SecretBox(cipher) => {
                let (nonce, body) = sealed.split_at_checked(BOX_NONCE).ok_or_else(too_short)?;
                let plain = cipher.decrypt(BoxNonce::from_slice(nonce), body);
                plain.map_err(|_| {
                    "output array was not large enough for encryption or the data is not authentic".to_owned()
                })
            }
        }
    }
}
