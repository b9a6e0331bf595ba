//! ConfigMaps and Secrets.

use schema::Value;

use super::{KindRules, Write};
use crate::field::{Errors, FieldError};
use crate::names::config_map_key;
use crate::{Cursor, Path};

/// Most bytes of all values (`MaxSecretSize`).
const MAX_BYTES: usize = 1024 * 1024;
const SEALED: &str = "field is immutable when `immutable` is set";

pub(super) const CONFIG_MAPS: KindRules = KindRules {
    validate: |map, _, out| validate_config_map(map, out),
    validate_update: |new, old, _, out| {
        validate_sealed(new, old, &["data", "binaryData"], out);
        validate_config_map(new, out);
    },
    ..KindRules::NONE
};

/// Bytes of a base64 text.
fn decoded_len(value: &Value) -> usize {
    let text = value.as_str().unwrap_or("");
    text.len() / 4 * 3 - text.bytes().rev().take_while(|b| *b == b'=').count().min(text.len() / 4 * 3)
}

fn validate_config_map(map: &Cursor<'_>, out: &mut Errors) {
    let (data, binary) = (map.field("data"), map.field("binaryData"));
    let mut bytes = 0;
    for (key, value) in data.value.entries() {
        let path = data.path.key(key);
        out.extend(config_map_key(key).into_iter().map(|m| FieldError::invalid(&path, key.as_str(), m)));
        if binary.has(key) {
            out.push(FieldError::invalid(&path, key.as_str(), "duplicate of key present in binaryData"));
        }
        bytes += value.as_str().map_or(0, str::len);
    }
    for (key, value) in binary.value.entries() {
        let path = binary.path.key(key);
        out.extend(config_map_key(key).into_iter().map(|m| FieldError::invalid(&path, key.as_str(), m)));
        bytes += decoded_len(value);
    }
    if bytes > MAX_BYTES {
        // The whole object, which upstream prints as brackets.
        out.push(FieldError::too_long(&Path::new("[]"), MAX_BYTES));
    }
}

fn validate_sealed(new: &Cursor<'_>, old: &Value, fields: &[&str], out: &mut Errors) {
    if old["immutable"].as_bool() != Some(true) {
        return;
    }
    if !new.bool_of("immutable") {
        new.field("immutable").forbidden(out, SEALED);
    }
    for field in fields {
        if new.value[*field] != old[*field] {
            new.field(field).forbidden(out, SEALED);
        }
    }
}

pub(super) const SECRETS: KindRules = KindRules {
    defaults: fold_string_data,
    prepare_update: |new, old, _| {
        // A secret without a type keeps the one it has.
        if new["type"].is_zero() && !old["type"].is_zero() {
            new.insert("type", &old["type"]);
        }
    },
    validate: |secret, _, out| validate_secret(secret, out),
    validate_update: |new, old, _: &Write<'_>, out| {
        new.field("type").immutable(out, &old["type"]);
        validate_sealed(new, old, &["data"], out);
        validate_secret(new, out);
    },
    ..KindRules::NONE
};

/// `stringData` is a way to write `data`, and is not kept.
fn fold_string_data(secret: &mut Value) {
    let Some(Value::Map(strings)) = secret.remove("stringData") else { return };
    let data = secret.make_map().entry_map("data");
    for (key, value) in strings {
        data.insert(key, encode(value.as_str().unwrap_or("").as_bytes()));
    }
}

/// Standard base64 with padding.
fn encode(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |w, b| (w << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i <= chunk.len() { letter } else { '=' });
        }
    }
    out
}

/// The bytes of a base64 text; `None` when it is none.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        word = (word << 6) | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    Some(out)
}

fn validate_secret(secret: &Cursor<'_>, out: &mut Errors) {
    let data = secret.field("data");
    let mut bytes = 0;
    for (key, value) in data.value.entries() {
        let path = data.path.key(key);
        out.extend(config_map_key(key).into_iter().map(|m| FieldError::invalid(&path, key.as_str(), m)));
        bytes += decoded_len(value);
    }
    if bytes > MAX_BYTES {
        out.push(FieldError::too_long(&data.path, MAX_BYTES));
    }
    let require = |key: &str, out: &mut Errors| {
        if data.value.get(key).is_none() {
            out.push(FieldError::required(&data.path.key(key), ""));
        }
    };
    match secret.text_of("type") {
        "kubernetes.io/service-account-token" => {
            const NAME: &str = "kubernetes.io/service-account.name";
            let name = secret.value["metadata"]["annotations"].get(NAME).and_then(Value::as_str);
            if name.is_none_or(str::is_empty) {
                out.push(FieldError::required(&Path::new("metadata.annotations").key(NAME), ""));
            }
        }
        "kubernetes.io/dockercfg" => validate_docker(&data, ".dockercfg", out),
        "kubernetes.io/dockerconfigjson" => validate_docker(&data, ".dockerconfigjson", out),
        "kubernetes.io/basic-auth"
            if data.value.get("username").is_none() && data.value.get("password").is_none() =>
        {
            require("username", out);
            require("password", out);
        }
        "kubernetes.io/ssh-auth" if data.value.get("ssh-privatekey").is_none_or(Value::is_zero) => {
            out.push(FieldError::required(&data.path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            require("tls.crt", out);
            require("tls.key", out);
        }
        _ => {}
    }
}

fn validate_docker(data: &Cursor<'_>, key: &str, out: &mut Errors) {
    let path = data.path.key(key);
    let Some(value) = data.value.get(key) else {
        return out.push(FieldError::required(&path, ""));
    };
    let bytes = decode(value.as_str().unwrap_or("")).unwrap_or_default();
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Map(_) | Value::Null) => {}
        Ok(other) => out.push(FieldError::invalid(
            &path,
            "<secret contents redacted>",
            format!(
                "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                other.type_name()
            ),
        )),
        Err(error) => {
            out.push(FieldError::invalid(&path, "<secret contents redacted>", error.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::value;

    #[test]
    fn base64() {
        for (text, encoded) in
            [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("admin", "YWRtaW4=")]
        {
            assert_eq!(encode(text.as_bytes()), encoded);
            assert_eq!(decode(encoded).as_deref(), Some(text.as_bytes()));
            assert_eq!(decoded_len(&Value::str(encoded)), text.len());
        }
    }

    #[test]
    fn string_data_becomes_data() {
        let mut secret = value!({"data": {"a": "eA=="}, "stringData": {"a": "y", "b": "z"}});
        fold_string_data(&mut secret);
        assert_eq!(secret, value!({"data": {"a": "eQ==", "b": "eg=="}}));
    }
}
