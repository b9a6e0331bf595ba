//! The stored form, against what upstream's definition of it gives.

use proto::kms::v2::EncryptedObject;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;

use super::*;

#[test]
fn a_value_of_upstreams_form_is_read() {
    // HKDF's first block by hand: HMAC(seed, info || 1).
    let (seed, info, nonce) = ([7_u8; 32], [9_u8; 32], [3_u8; 12]);
    let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &seed), &[&info[..], &[1]].concat());
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
    let mut body = b"hello".to_vec();
    let nonce_value = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce_value, Aad::from(b"/registry/x"), &mut body).unwrap();
    let sealed = [&info[..], &nonce, &body].concat();

    let seeded = DataKey::new(&seed, SourceType::HkdfSha256XnonceAesGcmSeed).unwrap();
    assert_eq!(seeded.open(b"/registry/x", &sealed).unwrap(), b"hello");
    assert!(seeded.open(b"/registry/y", &sealed).is_err(), "a value belongs to its key");
    let (one, two) = (seeded.seal(b"k", b"v").unwrap(), seeded.seal(b"k", b"v").unwrap());
    assert_ne!(one[..32], two[..32], "every value has a key of its own");
    assert_eq!(seeded.open(b"k", &one).unwrap(), b"v");

    let direct = DataKey::new(&[7; 24], SourceType::AesGcmKey).unwrap();
    let sealed = direct.seal(b"k", b"v").unwrap();
    assert_eq!(direct.open(b"k", &sealed).unwrap(), b"v");
    assert!(DataKey::new(&[7; 31], SourceType::HkdfSha256XnonceAesGcmSeed).is_err());
}

#[test]
fn the_envelope_has_upstreams_field_numbers() {
    let object = EncryptedObject {
        encrypted_data: b"d".to_vec().into(),
        key_id: "k".to_owned(),
        encrypted_dek_source: b"s".to_vec().into(),
        annotations: [("a.b".to_owned(), b"x".to_vec().into())].into(),
        encrypted_dek_source_type: SourceType::HkdfSha256XnonceAesGcmSeed.into(),
    };
    let expected = b"\x0a\x01d\x12\x01k\x1a\x01s\x22\x08\x0a\x03a.b\x12\x01x\x28\x01";
    assert_eq!(object.encode_to_vec(), expected);
    assert_eq!(envelope::validate(&object), Ok(()));
}

#[test]
fn what_a_plugin_may_not_answer() {
    let good = EncryptedObject {
        encrypted_data: vec![0].into(),
        key_id: "1".to_owned(),
        encrypted_dek_source: vec![1].into(),
        ..EncryptedObject::default()
    };
    let check = |change: fn(&mut EncryptedObject), expected: &str| {
        let mut object = good.clone();
        change(&mut object);
        assert_eq!(envelope::validate(&object).unwrap_err(), expected);
    };
    check(|o| o.key_id.clear(), "failed to validate key id: keyID is empty");
    check(
        |o| o.key_id = "x".repeat(1025),
        "failed to validate key id: keyID is 1025 bytes, which exceeds the max size of 1024",
    );
    check(
        |o| o.encrypted_dek_source.clear(),
        "failed to validate encrypted DEK source: encrypted DEK source is empty",
    );
    check(|o| o.encrypted_dek_source_type = 7, "unknown encryptedDEKSourceType: 7");
    check(
        |o| drop(o.annotations.insert("plain".to_owned(), vec![].into())),
        "failed to validate annotations: annotations: Invalid value: \"plain\": should be a domain with at least two \
         segments separated by dots",
    );
}
