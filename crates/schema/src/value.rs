//! The schema-shaped object: a JSON value with small strings and sorted maps.

use smol_str::SmolStr;

use crate::Map;
use crate::path::{Path, Segment};

/// Any Kubernetes object or part of one.
///
/// Quantities, times and bytes (base64) are strings in canonical form; a [`crate::Node`] says what a string means.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Value {
    /// JSON null.
    #[default]
    Null,
    /// JSON true or false.
    Bool(bool),
    /// A number without fraction that fits 64 bits.
    Int(i64),
    /// Any other number; always finite.
    Float(f64),
    /// A string; up to 23 bytes live inline.
    Str(SmolStr),
    /// A list.
    List(Vec<Value>),
    /// An object or map.
    Map(Map),
}

static NULL: Value = Value::Null;

impl Value {
    /// An empty object.
    pub const fn map() -> Self {
        Self::Map(Map::new())
    }

    /// A string.
    pub fn str(text: impl Into<SmolStr>) -> Self {
        Self::Str(text.into())
    }

    /// True for null.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Null, `false`, 0, `""`, `[]` or `{}`: what Go calls the zero value.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(b) => !b,
            Self::Int(i) => *i == 0,
            Self::Float(f) => *f == 0.0,
            Self::Str(s) => s.is_empty(),
            Self::List(list) => list.is_empty(),
            Self::Map(map) => map.is_empty(),
        }
    }

    /// The JSON type's name as Go's decoder says it: `null`, `bool`, `number`, `string`, `array`, `object`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::Float(_) => "number",
            Self::Str(_) => "string",
            Self::List(_) => "array",
            Self::Map(_) => "object",
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(s) = self { Some(s) } else { None }
    }

    /// The text of a string as the cheaply cloned type.
    pub fn as_smol(&self) -> Option<&SmolStr> {
        if let Self::Str(s) = self { Some(s) } else { None }
    }

    /// A whole number.
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(i) = self { Some(*i) } else { None }
    }

    /// Any number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(i) => Some(*i as f64),
            Self::Float(f) => Some(*f),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(b) = self { Some(*b) } else { None }
    }

    /// The items of a list.
    pub fn as_list(&self) -> Option<&Vec<Value>> {
        if let Self::List(list) = self { Some(list) } else { None }
    }

    /// The items of a list, to change.
    pub fn as_list_mut(&mut self) -> Option<&mut Vec<Value>> {
        if let Self::List(list) = self { Some(list) } else { None }
    }

    /// An object.
    pub fn as_map(&self) -> Option<&Map> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// An object, to change.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// Makes this an object unless it is one, and gives it.
    pub fn make_map(&mut self) -> &mut Map {
        if !matches!(self, Self::Map(_)) {
            *self = Self::map();
        }
        match self {
            Self::Map(map) => map,
            _ => unreachable!("made a map above"),
        }
    }

    /// Makes this a list unless it is one, and gives it.
    pub fn make_list(&mut self) -> &mut Vec<Value> {
        if !matches!(self, Self::List(_)) {
            *self = Self::List(Vec::new());
        }
        match self {
            Self::List(list) => list,
            _ => unreachable!("made a list above"),
        }
    }

    /// The items, or none when this is no list.
    pub fn items(&self) -> &[Value] {
        if let Self::List(list) = self { list } else { &[] }
    }

    /// The object's entries, or none when this is no object.
    pub fn entries(&self) -> &[(SmolStr, Value)] {
        if let Self::Map(map) = self { map.as_slice() } else { &[] }
    }

    /// The field `key` of an object.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }

    /// The field `key` of an object, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.as_map_mut()?.get_mut(key)
    }

    /// Sets the field `key`, making this an object if need be; gives the value it had.
    pub fn insert(&mut self, key: impl Into<SmolStr>, value: impl Into<Value>) -> Option<Value> {
        self.make_map().insert(key, value)
    }

    /// Removes the field `key` of an object.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.as_map_mut()?.remove(key)
    }

    /// The value at dotted field names, `metadata.name`; for names with dots use [`Value::pointer`].
    pub fn at(&self, dotted: &str) -> Option<&Value> {
        dotted.split('.').try_fold(self, |value, name| value.get(name))
    }

    /// As [`Value::at`], to change.
    pub fn at_mut(&mut self, dotted: &str) -> Option<&mut Value> {
        dotted.split('.').try_fold(self, |value, name| value.get_mut(name))
    }

    /// The string at dotted field names.
    pub fn str_at(&self, dotted: &str) -> Option<&str> {
        self.at(dotted)?.as_str()
    }

    /// The whole number at dotted field names.
    pub fn int_at(&self, dotted: &str) -> Option<i64> {
        self.at(dotted)?.as_int()
    }

    /// The boolean at dotted field names.
    pub fn bool_at(&self, dotted: &str) -> Option<bool> {
        self.at(dotted)?.as_bool()
    }

    /// The items at dotted field names; none when there is no list.
    pub fn items_at(&self, dotted: &str) -> &[Value] {
        self.at(dotted).map_or(&[], Value::items)
    }

    /// The object at dotted field names.
    pub fn map_at(&self, dotted: &str) -> Option<&Map> {
        self.at(dotted)?.as_map()
    }

    /// The value at field names.
    pub fn pointer<S: AsRef<str>>(&self, names: &[S]) -> Option<&Value> {
        names.iter().try_fold(self, |value, name| value.get(name.as_ref()))
    }

    /// The value at field names, to change.
    pub fn pointer_mut<S: AsRef<str>>(&mut self, names: &[S]) -> Option<&mut Value> {
        names.iter().try_fold(self, |value, name| value.get_mut(name.as_ref()))
    }

    /// The value at `path`.
    pub fn at_path(&self, path: &Path) -> Option<&Value> {
        path.segments().iter().try_fold(self, |value, step| match step {
            Segment::Field(name) | Segment::Key(name) => value.get(name),
            Segment::Index(index) => value.items().get(*index),
        })
    }

    /// Sets the value at dotted field names; parents that are missing or no objects become objects.
    pub fn set(&mut self, dotted: &str, value: impl Into<Value>) -> Option<Value> {
        let names: Vec<&str> = dotted.split('.').collect();
        self.set_pointer(&names, value)
    }

    /// Sets the value at field names; parents that are missing or no objects become objects.
    pub fn set_pointer<S: AsRef<str>>(&mut self, names: &[S], value: impl Into<Value>) -> Option<Value> {
        let Some((last, parents)) = names.split_last() else {
            return Some(std::mem::replace(self, value.into()));
        };
        let parent = parents.iter().fold(self.make_map(), |map, name| map.entry_map(name.as_ref()));
        parent.insert(last.as_ref(), value)
    }

    /// Removes the value at dotted field names.
    pub fn remove_at(&mut self, dotted: &str) -> Option<Value> {
        match dotted.rsplit_once('.') {
            Some((parent, last)) => self.at_mut(parent)?.remove(last),
            None => self.remove(dotted),
        }
    }

    /// The value, leaving null.
    pub fn take(&mut self) -> Value {
        std::mem::take(self)
    }

    /// Roughly how many bytes of memory this holds, for cache and request limits.
    pub fn heap_size(&self) -> usize {
        let string = |s: &SmolStr| if s.is_heap_allocated() { s.len() + 16 } else { 0 };
        match self {
            Self::Str(s) => string(s),
            Self::List(list) => {
                list.capacity() * size_of::<Value>() + list.iter().map(Value::heap_size).sum::<usize>()
            }
            Self::Map(map) => {
                map.iter().map(|(k, v)| size_of::<(SmolStr, Value)>() + string(k) + v.heap_size()).sum()
            }
            _ => 0,
        }
    }
}

/// `value["spec"]`: null when absent.
impl std::ops::Index<&str> for Value {
    type Output = Value;
    fn index(&self, key: &str) -> &Value {
        self.get(key).unwrap_or(&NULL)
    }
}

/// `list[0]`: null when absent.
impl std::ops::Index<usize> for Value {
    type Output = Value;
    fn index(&self, index: usize) -> &Value {
        self.items().get(index).unwrap_or(&NULL)
    }
}

macro_rules! from_via {
    ($($from:ty, $value:ident => $make:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $make
            }
        }
    )*};
}

from_via! {
    bool, b => Self::Bool(b);
    i32, i => Self::Int(i64::from(i));
    u32, i => Self::Int(i64::from(i));
    u16, i => Self::Int(i64::from(i));
    i64, i => Self::Int(i);
    f64, f => if f.is_finite() { Self::Float(f) } else { Self::Null };
    &str, s => Self::Str(SmolStr::new(s));
    String, s => Self::Str(s.into());
    &String, s => Self::Str(SmolStr::new(s));
    SmolStr, s => Self::Str(s);
    &SmolStr, s => Self::Str(s.clone());
    Map, m => Self::Map(m);
    &Value, v => v.clone();
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Value {
    fn from(items: [T; N]) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }
}

/// Builds a [`Value`] in JSON notation: `value!({"kind": "Pod", "spec": {"replicas": n}})`.
///
/// Keys are expressions that make a `SmolStr`; values in parentheses or plain tokens are expressions with `Into<Value>`.
#[macro_export]
macro_rules! value {
    (null) => { $crate::Value::Null };
    ([ $($item:tt),* $(,)? ]) => { $crate::Value::List(vec![ $($crate::value!($item)),* ]) };
    ({ $($key:tt : $item:tt),* $(,)? }) => {
        $crate::Value::Map($crate::Map::from_unsorted(vec![ $(($crate::SmolStr::from($key), $crate::value!($item))),* ]))
    };
    ($other:expr) => { $crate::Value::from($other) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_and_write() {
        let mut pod = value!({"spec": {"nodeName": "a", "ports": [1, 2]}});
        assert_eq!(pod.str_at("spec.nodeName"), Some("a"));
        assert_eq!(
            pod.pointer(&["spec", "ports"]).map(Value::items),
            Some(&[Value::Int(1), Value::Int(2)][..])
        );
        assert_eq!(pod.set("metadata.labels.x", "y"), None);
        assert_eq!(pod["metadata"]["labels"]["x"].as_str(), Some("y"));
        assert_eq!(pod.remove_at("spec.nodeName"), Some(Value::str("a")));
        assert!(pod["spec"]["nodeName"].is_null());
        assert_eq!(pod.at_path(&Path::of("spec.ports").index(1)), Some(&Value::Int(2)));
    }

    #[test]
    fn is_small() {
        assert!(size_of::<Value>() <= 32);
    }
}
