//! Field sets to and from `fieldsV1`.

use schema::{Map, SmolStr, Value};
use smol_str::format_smolstr;

use super::element::json;
use super::{Element, Set};

/// Deepest nesting of a field set that is read.
const MAX_DEPTH: usize = 1_000;

/// Why a `fieldsV1` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// The value of a field is no object.
    #[error("expected an object, got {0}")]
    NotAnObject(&'static str),
    /// Not one of the four kinds of key.
    #[error("unknown path element {0:?}")]
    Element(SmolStr),
    /// Nested deeper than any object.
    #[error("field set is nested too deeply")]
    Depth,
}

impl Set {
    /// As `fieldsV1` holds it.
    pub fn to_value(&self) -> Value {
        Value::Map(self.to_map(false))
    }

    fn to_map(&self, member: bool) -> Map {
        let mut entries = Vec::with_capacity(self.nodes().count() + 1);
        if member && !self.is_empty() {
            entries.push((SmolStr::new_static("."), Value::map()));
        }
        entries.extend(
            self.nodes().map(|(element, entry)| (key(element), Value::Map(entry.below.to_map(entry.member)))),
        );
        Map::from_unsorted(entries)
    }

    /// Reads a `fieldsV1`.
    pub fn from_value(fields: &Value) -> Result<Self, FieldsError> {
        read(fields, 0).map(|(set, _)| set)
    }
}

fn key(element: &Element) -> SmolStr {
    match element {
        Element::Field(name) => format_smolstr!("f:{name}"),
        Element::Key(keys) => {
            format_smolstr!("k:{}", json(&Value::Map(keys.iter().cloned().collect())))
        }
        Element::Value(value) => format_smolstr!("v:{}", json(value)),
        Element::Index(index) => format_smolstr!("i:{index}"),
    }
}

fn parse_key(key: &SmolStr) -> Result<Element, FieldsError> {
    let wrong = || FieldsError::Element(key.clone());
    let (kind, rest) = key.split_once(':').ok_or_else(wrong)?;
    match kind {
        "f" => Ok(Element::Field(SmolStr::new(rest))),
        "i" => rest.parse().map(Element::Index).map_err(|_| wrong()),
        "v" => serde_json::from_str(rest).map(Element::Value).map_err(|_| wrong()),
        "k" => match serde_json::from_str(rest) {
            Ok(Value::Map(keys)) => Ok(Element::Key(keys.into_vec())),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

/// The set, and whether the place itself is a member.
fn read(fields: &Value, depth: usize) -> Result<(Set, bool), FieldsError> {
    if depth > MAX_DEPTH {
        return Err(FieldsError::Depth);
    }
    let Value::Map(map) = fields else { return Err(FieldsError::NotAnObject(fields.type_name())) };
    let mut set = Set::new();
    let mut member = map.is_empty();
    for (key, value) in map {
        if key == "." {
            member = true;
            continue;
        }
        let (below, is_member) = read(value, depth + 1)?;
        set.put(parse_key(key)?, is_member, below);
    }
    Ok((set, member))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let text = r#"{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":
            {"k:{\"name\":\"c\"}":{".":{},"f:image":{}}},"f:finalizers":{"v:\"a.b/c\"":{}}},"i:3":{}}"#;
        let fields: Value = serde_json::from_str(text).unwrap();
        let set = Set::from_value(&fields).unwrap();
        assert_eq!(set.len(), 6);
        assert_eq!(set.to_value(), fields);
        assert_eq!(
            set.leaf_paths(),
            [
                ".metadata.labels.app",
                ".spec.containers[name=\"c\"].image",
                ".spec.finalizers[=\"a.b/c\"]",
                "[3]"
            ]
        );
    }

    #[test]
    fn wrong_ones() {
        for text in [r#"{"x":{}}"#, r#"{"q:a":{}}"#, r#"{"f:a":1}"#, r#"{"k:[]":{}}"#, "[]"] {
            assert!(Set::from_value(&serde_json::from_str(text).unwrap()).is_err(), "{text}");
        }
    }
}
