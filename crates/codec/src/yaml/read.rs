//! One YAML document to JSON text.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Options};

use crate::Error;
use crate::json::{encode_into, encode_string};
use schema::Value;

/// Deepest nesting of YAML. Less than in JSON, since the parser takes more stack; schemas of custom resources stay
/// far below.
const YAML_DEPTH_MAX: usize = 100;

/// The document as JSON text with keys in its order. Merge keys and aliases are expanded within the library's bounds.
/// Of a repeated key the last value stays. An empty document is null.
pub fn to_json(body: &[u8]) -> Result<Vec<u8>, Error> {
    let text = String::from_utf8_lossy(body);
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::LastWins;
    options.with_snippet = false;
    if let Some(budget) = &mut options.budget {
        budget.max_depth = YAML_DEPTH_MAX;
    }
    let mut out = Vec::with_capacity(body.len() * 2);
    let seed = Transcode { out: &mut out, depth: 0 };
    serde_saphyr::with_deserializer_from_str_with_options(&text, options, |yaml| seed.deserialize(yaml))
        .map_err(|error| Error::Yaml(format!("yaml: {error}")))?;
    Ok(out)
}

/// What Go's strict parser says of the first name that stands twice in a mapping, if any does.
pub fn duplicate_key(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.with_snippet = false;
    if let Some(budget) = &mut options.budget {
        budget.max_depth = YAML_DEPTH_MAX;
    }
    let mut out = Vec::new();
    let seed = Transcode { out: &mut out, depth: 0 };
    match serde_saphyr::with_deserializer_from_str_with_options(&text, options, |yaml| seed.deserialize(yaml))
    {
        Err(serde_saphyr::Error::DuplicateMappingKey { key, location }) => Some(format!(
            "yaml: unmarshal errors:\n  line {}: key {:?} already set in map",
            location.line(),
            key.unwrap_or_default()
        )),
        _ => None,
    }
}

struct Transcode<'o> {
    out: &'o mut Vec<u8>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Transcode<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > YAML_DEPTH_MAX {
            return Err(D::Error::custom("exceeded max depth"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Transcode<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        encode_into(&Value::Null, self.out);
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        encode_into(&Value::Null, self.out);
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        encode_into(&Value::Bool(value), self.out);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        encode_into(&Value::Int(value), self.out);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.out.extend_from_slice(value.to_string().as_bytes());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        encode_into(&Value::from(value), self.out);
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        encode_string(value, self.out);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Transcode { out, depth } = self;
        out.push(b'[');
        let mut before = out.len();
        while items.next_element_seed(Transcode { out, depth: depth + 1 })?.is_some() {
            before = out.len();
            out.push(b',');
        }
        out.truncate(before);
        out.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Transcode { out, depth } = self;
        out.push(b'{');
        let mut before = out.len();
        while let Some(Key(key)) = entries.next_key_seed(KeySeed)? {
            encode_string(&key, out);
            out.push(b':');
            entries.next_value_seed(Transcode { out, depth: depth + 1 })?;
            before = out.len();
            out.push(b',');
        }
        out.truncate(before);
        out.push(b'}');
        Ok(())
    }
}

/// A key as text: numbers and booleans are written out, as upstream's conversion does.
struct Key(String);
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar key")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Key, E> {
        Ok(Key(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Key, E> {
        Ok(Key(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Key, E> {
        Ok(Key(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Key, E> {
        Ok(Key(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Key, E> {
        Ok(Key(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Key, E> {
        Ok(Key(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(yaml: &str) -> String {
        String::from_utf8(to_json(yaml.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn keeps_order_and_types() {
        let yaml = "b: 1\na:\n- x\n- {c: true, d: null}\n- 1.5\ne: \"1\"\n1: one\nf: |\n  two\n  lines\n";
        assert_eq!(
            json(yaml),
            r#"{"b":1,"a":["x",{"c":true,"d":null},1.5],"e":"1","1":"one","f":"two\nlines\n"}"#
        );
    }

    #[test]
    fn anchors_and_empty_documents() {
        assert_eq!(json("a: &x [1]\nb: *x\n"), r#"{"a":[1],"b":[1]}"#);
        assert_eq!(json("# nothing\n"), "null");
        assert_eq!(json("a: []\nb: {}\n"), r#"{"a":[],"b":{}}"#);
    }

    #[test]
    fn aliases_do_not_explode() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..10 {
            let refs = vec![format!("*a{}", i - 1); 10].join(",");
            bomb.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert!(to_json(bomb.as_bytes()).is_err());
    }

    #[test]
    fn broken_yaml_is_an_error() {
        assert!(matches!(to_json(b"a: [1, 2"), Err(Error::Yaml(_))));
    }
}
