//! `metadata` of an object as the registry reads and writes it.

use base::Clock;
use schema::{SmolStr, Value};

/// `metadata.name`, empty when absent.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata.namespace`, empty when absent.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata.uid`, empty when absent.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// `metadata.resourceVersion`, empty when absent.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// A string field of `metadata`, empty when absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or_default()
}

/// A string field of `metadata` as the cheaply cloned type.
pub fn smol(object: &Value, field: &str) -> SmolStr {
    object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_smol).cloned().unwrap_or_default()
}

/// Sets a field of `metadata`; an empty value removes it.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    let value = value.into();
    let metadata = object.make_map().entry_map("metadata");
    if value.is_zero() {
        metadata.remove(field);
    } else {
        metadata.insert(field, value);
    }
}

/// Removes a field of `metadata`.
pub fn remove(object: &mut Value, field: &str) {
    if let Some(metadata) = object.get_mut("metadata") {
        metadata.remove(field);
    }
}

/// Makes `metadata.field` what it is in `from`, absent included.
pub fn copy(object: &mut Value, from: &Value, field: &str) {
    match from.get("metadata").and_then(|m| m.get(field)) {
        Some(value) => {
            object.make_map().entry_map("metadata").insert(field, value.clone());
        }
        None => remove(object, field),
    }
}

/// The finalizers.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object.items_at("metadata.finalizers").iter().filter_map(Value::as_str)
}

/// True once deletion has been asked for.
pub fn is_deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// Now as `metav1.Time`: RFC 3339, UTC, whole seconds.
pub fn now(clock: &dyn Clock) -> String {
    timestamp(clock, 0)
}

/// `offset_s` seconds from now as `metav1.Time`.
pub fn timestamp(clock: &dyn Clock, offset_s: i64) -> String {
    let since = clock.now().duration_since(std::time::SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let seconds = i64::try_from(since).unwrap_or(i64::MAX).saturating_add(offset_s);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// Seconds since the epoch of a `metav1.Time`.
pub fn parse_time(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|t| t.as_second())
}

/// A random UUID (version 4).
pub fn new_uid() -> String {
    let mut bytes = [0_u8; 16];
    // The system's generator does not fail on Linux; zeros would only make a uid that is refused as taken.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The letters of generated suffixes: no vowels and nothing that looks alike.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of a generated suffix, and the longest base it is put after.
const SUFFIX_LENGTH: usize = 5;
const MAX_GENERATED_BASE: usize = 63 - SUFFIX_LENGTH;

/// `base` with a random suffix (`names.SimpleNameGenerator`).
pub fn generate_name(base: &str) -> String {
    let mut bytes = [0_u8; SUFFIX_LENGTH];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    let end = (0..=base.len().min(MAX_GENERATED_BASE)).rev().find(|i| base.is_char_boundary(*i)).unwrap_or(0);
    let suffix = bytes.iter().map(|b| SUFFIX_LETTERS[*b as usize % SUFFIX_LETTERS.len()] as char);
    base[..end].chars().chain(suffix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_and_names() {
        let uid = new_uid();
        assert_eq!((uid.len(), &uid[14..15]), (36, "4"));
        assert_eq!(generate_name("a-").len(), 7);
        assert_eq!(generate_name(&"a".repeat(80)).len(), 63);
    }

    #[test]
    fn zero_values_leave_metadata() {
        let mut o = schema::value!({"metadata": {"uid": "x"}});
        set(&mut o, "uid", "");
        set(&mut o, "name", "n");
        assert_eq!(o, schema::value!({"metadata": {"name": "n"}}));
    }
}
