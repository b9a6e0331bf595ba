//! The values of the language.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use smol_str::SmolStr;

use crate::host::Host;
use crate::types::Type;

/// A value. Cheap to clone: what is large is shared.
#[derive(Debug, Clone)]
pub enum Value {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// 64 bits, signed.
    Int(i64),
    /// 64 bits, unsigned.
    Uint(u64),
    /// IEEE 754 of 64 bits.
    Double(f64),
    /// Text.
    String(SmolStr),
    /// Octets.
    Bytes(Arc<[u8]>),
    /// Items, and how two lists of this kind are compared and joined.
    List(Arc<Vec<Value>>, ListKind),
    /// Keys and values; objects too, with their fields as keys.
    Map(Arc<BTreeMap<Key, Value>>),
    /// A constructed object: its type's name and fields.
    Object(SmolStr, Arc<BTreeMap<Key, Value>>),
    /// A moment.
    Timestamp(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    /// A type as a value.
    Type(Type),
    /// A value or none.
    Optional(Option<Arc<Value>>),
    /// A value of a library or of the embedder.
    Host(Arc<dyn Host>),
}

/// How lists of a schema are compared and joined (`x-kubernetes-list-type`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListKind {
    /// Item by item, in order.
    #[default]
    Atomic,
    /// As sets: order does not matter, a sum holds each item once.
    Set,
    /// By these fields of the items.
    Map(Arc<[SmolStr]>),
}

/// A moment: seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// The rest, below a billion.
    pub nanos: u32,
}

/// A key of a map. Numbers are equal by value, whatever their type.
#[derive(Debug, Clone)]
pub enum Key {
    /// `false`, `true`
    Bool(bool),
    /// Signed.
    Int(i64),
    /// Unsigned.
    Uint(u64),
    /// Text.
    String(SmolStr),
}

impl Key {
    fn rank(&self) -> u8 {
        match self {
            Self::Bool(_) => 0,
            Self::Int(_) | Self::Uint(_) => 1,
            Self::String(_) => 2,
        }
    }

    fn number(&self) -> i128 {
        match self {
            Self::Bool(b) => i128::from(*b),
            Self::Int(i) => i128::from(*i),
            Self::Uint(u) => i128::from(*u),
            Self::String(_) => 0,
        }
    }

    /// The key as a value.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(i) => Value::Int(*i),
            Self::Uint(u) => Value::Uint(*u),
            Self::String(s) => Value::String(s.clone()),
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::String(a), Self::String(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()).then_with(|| self.number().cmp(&other.number())),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(i) => write!(f, "{i}"),
            Self::Uint(u) => write!(f, "{u}"),
            Self::String(s) => f.write_str(s),
        }
    }
}

impl Value {
    /// A string.
    pub fn str(text: impl Into<SmolStr>) -> Self {
        Self::String(text.into())
    }

    /// A list.
    pub fn list(items: Vec<Value>) -> Self {
        Self::List(Arc::new(items), ListKind::Atomic)
    }

    /// A map with text keys, or an object with these fields.
    pub fn map<K: Into<SmolStr>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Map(Arc::new(entries.into_iter().map(|(k, v)| (Key::String(k.into()), v)).collect()))
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(s) = self { Some(s) } else { None }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(b) = self { Some(*b) } else { None }
    }

    /// The value of JSON without a schema: numbers without fraction are int, objects are maps.
    pub fn from_json(value: &schema::Value) -> Self {
        match value {
            schema::Value::Null => Self::Null,
            schema::Value::Bool(b) => Self::Bool(*b),
            schema::Value::Int(i) => Self::Int(*i),
            schema::Value::Float(f) => Self::Double(*f),
            schema::Value::Str(s) => Self::String(s.clone()),
            schema::Value::List(list) => Self::list(list.iter().map(Self::from_json).collect()),
            schema::Value::Map(map) => {
                let entry = |(k, v): &(SmolStr, schema::Value)| (Key::String(k.clone()), Self::from_json(v));
                Self::Map(Arc::new(map.into_iter().map(entry).collect()))
            }
        }
    }
}
