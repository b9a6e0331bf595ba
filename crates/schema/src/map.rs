//! The object of the value model: key and value pairs kept sorted by key, so that equal objects are equal memory.

use smol_str::SmolStr;

use crate::Value;

/// A JSON object as a sorted vector of unique keys.
///
/// Objects of Kubernetes are small: a binary search over one allocation beats hashing, and iteration is canonical.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map(Vec<(SmolStr, Value)>);

impl Map {
    /// An empty object; allocates nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty object with room for `capacity` entries.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Sorts `entries` once. On a repeated key the last value stays.
    pub fn from_unsorted(mut entries: Vec<(SmolStr, Value)>) -> Self {
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            // `dedup_by` keeps the earlier of two: move the later value into it.
            entries.dedup_by(|later, earlier| {
                let same = later.0 == earlier.0;
                if same {
                    std::mem::swap(&mut later.1, &mut earlier.1);
                }
                same
            });
        }
        Self(entries)
    }

    /// Sorts `entries` once; the first key that occurs twice is the error.
    pub fn from_unique(mut entries: Vec<(SmolStr, Value)>) -> Result<Self, SmolStr> {
        if !entries.is_sorted_by(|a, b| a.0 < b.0) {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            if let Some(pair) = entries.windows(2).find(|w| w[0].0 == w[1].0) {
                return Err(pair[0].0.clone());
            }
        }
        Ok(Self(entries))
    }

    fn search(&self, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(k, _)| k.as_str().cmp(key))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value at `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.search(key).ok().map(|i| &self.0[i].1)
    }

    /// The value at `key`, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.search(key).ok().map(|i| &mut self.0[i].1)
    }

    /// True when `key` is there, with any value, null included.
    pub fn contains_key(&self, key: &str) -> bool {
        self.search(key).is_ok()
    }

    /// The string at `key`; `None` when absent or no string.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// Sets `key`; gives the value it had.
    pub fn insert(&mut self, key: impl Into<SmolStr>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        match self.search(&key) {
            Ok(i) => Some(std::mem::replace(&mut self.0[i].1, value)),
            Err(i) => {
                self.0.insert(i, (key, value));
                None
            }
        }
    }

    /// Removes `key`; gives the value it had.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.search(key).ok().map(|i| self.0.remove(i).1)
    }

    /// The value at `key`, made by `make` when absent.
    pub fn entry(&mut self, key: impl Into<SmolStr>, make: impl FnOnce() -> Value) -> &mut Value {
        let key = key.into();
        let i = match self.search(&key) {
            Ok(i) => i,
            Err(i) => {
                self.0.insert(i, (key, make()));
                i
            }
        };
        &mut self.0[i].1
    }

    /// The object at `key`; an absent, null or other value is replaced by an empty object.
    pub fn entry_map(&mut self, key: impl Into<SmolStr>) -> &mut Map {
        self.entry(key, || Value::Map(Map::new())).make_map()
    }

    /// The list at `key`; an absent, null or other value is replaced by an empty list.
    pub fn entry_list(&mut self, key: impl Into<SmolStr>) -> &mut Vec<Value> {
        self.entry(key, || Value::List(Vec::new())).make_list()
    }

    /// Keeps the entries that `keep` wants.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Value) -> bool) {
        self.0.retain_mut(|(k, v)| keep(k, v));
    }

    /// Entries by ascending key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&SmolStr, &Value)> + DoubleEndedIterator {
        self.0.iter().map(|(k, v)| (k, v))
    }

    /// Entries by ascending key, values to change.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&SmolStr, &mut Value)> {
        self.0.iter_mut().map(|(k, v)| (&*k, v))
    }

    /// Ascending keys.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &SmolStr> {
        self.0.iter().map(|(k, _)| k)
    }

    /// Values by ascending key.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.0.iter().map(|(_, v)| v)
    }

    /// The sorted entries.
    pub fn as_slice(&self) -> &[(SmolStr, Value)] {
        &self.0
    }

    /// The sorted entries, owned.
    pub fn into_vec(self) -> Vec<(SmolStr, Value)> {
        self.0
    }
}

impl IntoIterator for Map {
    type Item = (SmolStr, Value);
    type IntoIter = std::vec::IntoIter<(SmolStr, Value)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a (SmolStr, Value);
    type IntoIter = std::slice::Iter<'a, (SmolStr, Value)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<K: Into<SmolStr>, V: Into<Value>> FromIterator<(K, V)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self::from_unsorted(entries.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl<K: Into<SmolStr>, V: Into<Value>, const N: usize> From<[(K, V); N]> for Map {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_sorted_and_unique() {
        let mut map = Map::from([("b", 1), ("a", 2)]);
        map.insert("aa", 3);
        assert_eq!(map.keys().collect::<Vec<_>>(), ["a", "aa", "b"]);
        assert_eq!(map.insert("aa", 4), Some(Value::Int(3)));
        assert_eq!(map.remove("b"), Some(Value::Int(1)));
        assert_eq!(map.get("b"), None);
        assert_eq!(map.len(), 2);
    }

    #[test]
    fn bulk_build_finds_duplicates() {
        let entries =
            || vec![("b".into(), Value::Int(1)), ("a".into(), Value::Int(2)), ("b".into(), Value::Int(3))];
        assert_eq!(Map::from_unique(entries()), Err("b".into()));
        assert_eq!(Map::from_unsorted(entries()), Map::from([("a", 2), ("b", 3)]));
    }
}
