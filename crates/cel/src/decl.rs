//! Schemas as types: what an OpenAPI schema says of a value's type and size, and values by it (`SchemaDeclType`).

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use schema::Value as Json;
use smol_str::SmolStr;

use crate::cost::{CostRange, SizeEstimator};
use crate::reserved::is_reserved;
use crate::time::{parse_duration, parse_timestamp};
use crate::types::ObjectType;
use crate::value::{Key, ListKind};
use crate::{Type, Value};

/// Largest request, of which all sizes without a limit are a part.
const MAX_REQUEST: u64 = 3 * 1024 * 1024;
const MAX_DURATION_TEXT: u64 = 32;
const MIN_DURATION_TEXT: u64 = 4;
const MAX_TIME_TEXT: u64 = 32;
const MIN_TIME_TEXT: u64 = 22;
const DATE_TEXT: u64 = 12;

/// What a schema says of a value that expressions can see. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Decl(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Shape,
    of: Type,
    /// Most items, entries or characters; 0 for what has no size.
    max_elements: u64,
    /// Shortest JSON.
    min_size: u64,
}

#[derive(Debug)]
enum Shape {
    Scalar(Scalar),
    List(Decl, ListKind),
    Map(Decl),
    /// Fields by JSON name, with the name that expressions use.
    Object(BTreeMap<SmolStr, (Option<SmolStr>, Decl)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scalar {
    Any,
    Bool,
    Int,
    Double,
    Text,
    Bytes,
    Duration,
    Date,
    Time,
}

impl Decl {
    /// What an OpenAPI schema declares; `root` when it is of a whole object (the resource, or an embedded one). `None` for what
    /// expressions cannot see: schemas without a type.
    pub fn from_openapi(schema: &Json, root: bool) -> Option<Self> {
        Self::named(schema, root, &SmolStr::new_static("selfType"))
    }

    fn new(kind: Shape, of: Type, max_elements: u64, min_size: u64) -> Self {
        Self(Arc::new(Inner { kind, of, max_elements, min_size }))
    }

    fn scalar(kind: Scalar, of: Type, max_elements: u64, min_size: u64) -> Option<Self> {
        Some(Self::new(Shape::Scalar(kind), of, max_elements, min_size))
    }

    fn named(schema: &Json, root: bool, name: &SmolStr) -> Option<Self> {
        if flag(schema, "x-kubernetes-int-or-string") {
            return Self::scalar(Scalar::Any, Type::Dyn, MAX_REQUEST - 2, 1);
        }
        match schema.str_at("type").unwrap_or_default() {
            "array" => {
                let items = schema.get("items").filter(|items| items.as_map().is_some())?;
                let below = SmolStr::from(format!("{name}.@idx"));
                let item = Self::named(items, flag(items, "x-kubernetes-embedded-resource"), &below)?;
                let most = limit(schema, "maxItems")
                    .unwrap_or_else(|| (MAX_REQUEST - 2) / item.0.min_size.saturating_add(1));
                let of = Type::list(item.0.of.clone());
                Some(Self::new(Shape::List(item, list_kind(schema)), of, most, 2))
            }
            "object" => Self::object(schema, root, name),
            "string" => Self::text(schema),
            "boolean" => Self::scalar(Scalar::Bool, Type::Bool, 0, 4),
            "number" => Self::scalar(Scalar::Double, Type::Double, 0, 1),
            "integer" => Self::scalar(Scalar::Int, Type::Int, 0, 1),
            _ => None,
        }
    }

    fn text(schema: &Json) -> Option<Self> {
        let most = limit(schema, "maxLength");
        match schema.str_at("format").unwrap_or_default() {
            "byte" => Self::scalar(Scalar::Bytes, Type::Bytes, most.unwrap_or(MAX_REQUEST - 2), 2),
            "duration" => {
                Self::scalar(Scalar::Duration, Type::Duration, MAX_DURATION_TEXT, MIN_DURATION_TEXT)
            }
            "date" => Self::scalar(Scalar::Date, Type::Timestamp, DATE_TEXT, DATE_TEXT),
            "date-time" => Self::scalar(Scalar::Time, Type::Timestamp, MAX_TIME_TEXT, MIN_TIME_TEXT),
            _ => {
                let longest = |values: &[Json]| values.iter().filter_map(Json::as_str).map(str::len).max();
                let most = match (most, schema.items_at("enum")) {
                    (Some(most), _) => most.saturating_mul(4),
                    (None, []) => MAX_REQUEST - 2,
                    (None, values) => longest(values).unwrap_or(0) as u64,
                };
                Self::scalar(Scalar::Text, Type::String, most, 2)
            }
        }
    }

    fn object(schema: &Json, root: bool, name: &SmolStr) -> Option<Self> {
        if let Some(values) = schema.get("additionalProperties").filter(|v| v.as_map().is_some())
            && !root
        {
            let below = SmolStr::from(format!("{name}.@elem"));
            let value = Self::named(values, flag(values, "x-kubernetes-embedded-resource"), &below)?;
            let most = limit(schema, "maxProperties")
                .unwrap_or_else(|| (MAX_REQUEST - 2) / value.0.min_size.saturating_add(6));
            let of = Type::map(Type::String, value.0.of.clone());
            return Some(Self::new(Shape::Map(value), of, most, 2));
        }
        let required = schema.items_at("required");
        let mut min_size = 2;
        let mut fields = BTreeMap::new();
        let declared = schema.get("properties").map(Json::entries).unwrap_or_default();
        for (field, of) in declared {
            let below = SmolStr::from(format!("{name}.{field}"));
            let replaced = root && matches!(field.as_str(), "apiVersion" | "kind" | "metadata");
            let embedded = flag(of, "x-kubernetes-embedded-resource");
            let Some(decl) = (if replaced { None } else { Self::named(of, embedded, &below) }) else {
                continue;
            };
            if required.iter().any(|r| r.as_str() == Some(field)) && of.get("default").is_none() {
                min_size += field.len() as u64 + decl.0.min_size + 4;
            }
            fields.insert(field.clone(), (escape(field), decl));
        }
        if root {
            for (field, decl) in whole_object(name) {
                fields.insert(field.clone(), (Some(field), decl));
            }
        }
        let types = fields.values().filter_map(|(name, decl)| Some((name.clone()?, decl.0.of.clone())));
        let types = ObjectType { name: name.clone(), fields: types.collect(), open: false };
        Some(Self::new(Shape::Object(fields), Type::Object(Arc::new(types)), 0, min_size))
    }

    /// The type to declare variables with.
    pub fn to_type(&self) -> Type {
        self.0.of.clone()
    }

    /// What the field of that JSON name is declared as.
    pub fn field(&self, name: &str) -> Option<&Decl> {
        match &self.0.kind {
            Shape::Object(fields) => fields.get(name).map(|(_, decl)| decl),
            _ => None,
        }
    }

    /// What the items of a list or the values of a map are declared as.
    pub fn element(&self) -> Option<&Decl> {
        match &self.0.kind {
            Shape::List(of, _) | Shape::Map(of) => Some(of),
            _ => None,
        }
    }

    /// The value of JSON by this schema: times, durations and bytes are read, fields that are not declared are left out.
    /// What does not fit its schema stays as JSON has it.
    pub fn value(&self, json: &Json) -> Value {
        match (&self.0.kind, json) {
            (Shape::Scalar(kind), _) => scalar_value(*kind, json),
            (Shape::List(item, kind), Json::List(list)) => {
                Value::List(Arc::new(list.iter().map(|v| item.value(v)).collect()), kind.clone())
            }
            (Shape::Map(of), Json::Map(map)) => {
                let entry = |(k, v): (&SmolStr, &Json)| (Key::String(k.clone()), of.value(v));
                Value::Map(Arc::new(map.iter().map(entry).collect()))
            }
            (Shape::Object(fields), Json::Map(map)) => {
                let mut out = BTreeMap::new();
                for (name, value) in map {
                    if let Some((Some(escaped), decl)) = fields.get(name) {
                        out.insert(Key::String(escaped.clone()), decl.value(value));
                    }
                }
                Value::Map(Arc::new(out))
            }
            (_, other) => Value::from_json(other),
        }
    }

    /// How many values of this kind one request can hold at most.
    pub fn most_values(&self) -> u64 {
        MAX_REQUEST / self.0.min_size.saturating_add(1)
    }

    fn at(&self, step: &str) -> Option<&Decl> {
        match (&self.0.kind, step) {
            (Shape::List(of, _), "@items") | (Shape::Map(of), "@values") => Some(of),
            (Shape::Object(fields), name) => {
                fields.values().find(|(escaped, _)| escaped.as_deref() == Some(name)).map(|(_, decl)| decl)
            }
            _ => None,
        }
    }
}

/// Sizes of what is reached from one variable of this declaration, whatever its name.
impl SizeEstimator for Decl {
    fn size(&self, path: &[SmolStr]) -> Option<CostRange> {
        let (last, steps) = path.split_last()?;
        let mut at = self;
        for step in steps.iter().skip(1) {
            at = at.at(step)?;
        }
        if path.len() > 1 {
            // Nothing limits keys, yet upstream counts them as empty: definitions rely on it.
            if last == "@keys" && matches!(at.0.kind, Shape::Map(_)) {
                return Some(CostRange::default());
            }
            at = at.at(last)?;
        }
        Some(CostRange { min: 0, max: at.0.max_elements })
    }
}

fn flag(schema: &Json, name: &str) -> bool {
    schema.get(name).and_then(Json::as_bool) == Some(true)
}

fn limit(schema: &Json, name: &str) -> Option<u64> {
    schema.get(name)?.as_int().map(|n| u64::try_from(n).unwrap_or(0))
}

fn list_kind(schema: &Json) -> ListKind {
    let word = schema.get("x-kubernetes-list-type").and_then(Json::as_str);
    match word {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").map(Json::items).unwrap_or_default();
            ListKind::Map(keys.iter().filter_map(Json::as_smol).cloned().collect())
        }
        _ => ListKind::Atomic,
    }
}

/// What rules see of every whole object: its type, its name and what the name was generated from.
fn whole_object(name: &SmolStr) -> Vec<(SmolStr, Decl)> {
    let text = || Decl::new(Shape::Scalar(Scalar::Text), Type::String, MAX_REQUEST - 2, 2);
    let names = ["name", "generateName"].map(SmolStr::new_static);
    let types = names.clone().map(|field| (field, Type::String));
    let fields = names.map(|field| (field.clone(), (Some(field), text()))).into_iter().collect();
    let of = Type::object(format!("{name}.metadata"), types);
    let metadata = Decl::new(Shape::Object(fields), of, 0, 2);
    vec![("apiVersion".into(), text()), ("kind".into(), text()), ("metadata".into(), metadata)]
}

fn scalar_value(kind: Scalar, json: &Json) -> Value {
    let read = match (kind, json) {
        (Scalar::Double, Json::Int(i)) => Some(Value::Double(*i as f64)),
        (Scalar::Int, Json::Float(f)) if f.fract() == 0.0 => Some(Value::Int(*f as i64)),
        (Scalar::Duration, Json::Str(text)) => parse_duration(text).map(Value::Duration),
        (Scalar::Time, Json::Str(text)) => parse_timestamp(text).map(Value::Timestamp),
        (Scalar::Date, Json::Str(text)) => {
            parse_timestamp(&format!("{text}T00:00:00Z")).map(Value::Timestamp)
        }
        (Scalar::Bytes, Json::Str(text)) => base64::engine::general_purpose::STANDARD
            .decode(text.as_bytes())
            .ok()
            .map(|b| Value::Bytes(b.into())),
        _ => None,
    };
    read.unwrap_or_else(|| Value::from_json(json))
}

/// A property's name as expressions write it; `None` when they cannot.
pub fn escape(name: &str) -> Option<SmolStr> {
    if is_reserved(name) {
        return Some(format!("__{name}__").into());
    }
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let (text, len) = match c {
            '_' if rest.starts_with("__") => ("__underscores__", 2),
            '.' => ("__dot__", 1),
            '-' => ("__dash__", 1),
            '/' => ("__slash__", 1),
            c if c.is_ascii_alphanumeric() || c == '_' => (&rest[..1], 1),
            _ => return None,
        };
        out.push_str(text);
        rest = &rest[len..];
    }
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CostBudget, Env};
    use schema::value;

    #[test]
    fn names_are_escaped() {
        for (name, escaped) in [
            ("a", Some("a")),
            ("namespace", Some("__namespace__")),
            ("a.b-c/d", Some("a__dot__b__dash__c__slash__d")),
            ("a__b", Some("a__underscores__b")),
            ("_a", Some("_a")),
            ("1a", None),
            ("a b", None),
        ] {
            assert_eq!(escape(name).as_deref(), escaped, "{name}");
        }
    }

    #[test]
    fn values_follow_their_schema() {
        let schema = value!({"type": "object", "properties": {
            "n": {"type": "number"}, "t": {"type": "string", "format": "date-time"}, "b": {"type": "string", "format": "byte"},
            "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "x": {"x-kubernetes-int-or-string": true}, "a-b": {"type": "integer"}, "open": {"x-kubernetes-preserve-unknown-fields": true}
        }});
        let decl = Decl::from_openapi(&schema, true).unwrap();
        let env = Env::new().variable("self", decl.to_type());
        let object = value!({"kind": "K", "metadata": {"name": "x", "labels": {}}, "n": 1, "t": "2024-01-01T00:00:00Z",
            "b": "YWI=", "s": ["a", "b"], "x": "5", "a-b": 3, "open": {"y": 1}});
        let bindings = crate::Bindings::new().with("self", decl.value(&object));
        for source in [
            "self.n == 1.0 && type(self.n) == double && self.t.getFullYear() == 2024 && self.b == b'ab'",
            "self.s == ['b', 'a'] && self.x == '5' && self.a__dash__b == 3 && self.metadata.name == 'x' && self.kind == 'K'",
            "self.s + ['a', 'c'] == ['a', 'b', 'c']",
        ] {
            let program = env.compile(source, &[Type::Bool]).unwrap();
            let result = program.evaluate(&bindings, &mut CostBudget::new(10_000));
            assert!(matches!(result, Ok(Value::Bool(true))), "{source}: {result:?}");
        }
        for source in ["self.open == 1", "self.metadata.labels == {}", "self.nope == 1"] {
            assert!(env.compile(source, &[]).is_err(), "{source}");
        }
    }

    #[test]
    fn costs_go_by_limits() {
        let schema = value!({"type": "object", "properties": {
            "l": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 5}}, "u": {"type": "array", "items": {"type": "string"}},
            "s": {"type": "string", "maxLength": 10}, "i": {"type": "integer"}
        }});
        let decl = Decl::from_openapi(&schema, false).unwrap();
        let env = Env::new().variable("self", decl.to_type());
        for (source, max) in [
            ("self.i > 0", 3),
            // 40 characters at most: two for the names, four for the walk.
            ("self.s == 'abc'", 3),
            ("self.s.startsWith('abcdefghijkl')", 4),
            // Per item: the condition's 2, the accumulator, the item and what the comparison takes.
            ("self.l.all(x, x == 'a')", 2 + 10 * (2 + 1 + 1 + 1) + 1),
            ("self.l.exists(x, x.contains('ab'))", 2 + 10 * (3 + 1 + 1 + 2) + 1),
        ] {
            let estimate = env.compile(source, &[]).unwrap().cost_estimate(&decl);
            assert_eq!(estimate.max, max, "{source}");
        }
        let wide =
            env.compile("self.u.all(x, self.u.exists_one(y, x == y))", &[]).unwrap().cost_estimate(&decl);
        assert!(wide.max > 1_000_000_000, "{}", wide.max);
    }
}
