//! Stable hashes of templates, in letters that spell no words.

use serde::Serialize;

/// Letters and digits without vowels and look-alikes (upstream's `rand.SafeEncodeString`).
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// FNV-1a over the JSON of `object`, with the collision count mixed in, spelt in the safe alphabet.
///
/// The JSON has its keys in a fixed order and leaves out what is absent, so the hash survives new optional fields.
pub fn object_hash(object: &impl Serialize, collision_count: Option<i32>) -> String {
    let json = serde_json::to_value(object).map(|v| v.to_string()).unwrap_or_default();
    let mut hash = fnv1a(0x811c_9dc5, json.as_bytes());
    if let Some(count) = collision_count {
        hash = fnv1a(hash, &count.to_le_bytes());
    }
    safe_encode(&hash.to_string())
}

/// Spells each byte of `text` by a letter of the safe alphabet.
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()])).collect()
}

/// 32-bit FNV-1a, from a given state.
pub fn fnv1a(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_stable_and_collisions_change_them() {
        let object = serde_json::json!({"b": 1, "a": "x"});
        let same = serde_json::json!({"a": "x", "b": 1});
        assert_eq!(object_hash(&object, None), object_hash(&same, None));
        assert_ne!(object_hash(&object, None), object_hash(&object, Some(1)));
        assert!(object_hash(&object, None).bytes().all(|b| ALPHABET.contains(&b)));
    }
}
