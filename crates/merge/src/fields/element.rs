//! One step of a path in a field set.

use std::cmp::Ordering;
use std::fmt;

use schema::{SmolStr, Value};

use crate::equality::compare;

/// A field of an object or key of a map, or an item of a list by key, by value or by index (`fieldpath.PathElement`).
#[derive(Debug, Clone)]
pub enum Element {
    /// `f:name`
    Field(SmolStr),
    /// `k:{"name":"c"}`: keys by name.
    Key(Vec<(SmolStr, Value)>),
    /// `v:"a"`
    Value(Value),
    /// `i:3`
    Index(i64),
}

impl Element {
    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => a
                .iter()
                .zip(b)
                .map(|((k, v), (l, w))| k.cmp(l).then_with(|| compare(v, w)))
                .find(|o| o.is_ne())
                .unwrap_or(a.len().cmp(&b.len())),
            (Self::Value(a), Self::Value(b)) => compare(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

pub(crate) fn json(value: &Value) -> String {
    // Values hold finite numbers and string keys only, which JSON always takes.
    serde_json::to_string(value).unwrap_or_default()
}

impl fmt::Display for Element {
    /// As conflict messages name it: `.name`, `[name="c"]`, `[="a"]`, `[3]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                f.write_str("[")?;
                for (i, (name, value)) in keys.iter().enumerate() {
                    write!(f, "{}{name}={}", if i > 0 { "," } else { "" }, json(value))?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={}]", json(value)),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}
