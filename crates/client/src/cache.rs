//! The local copy of a kind, kept by its informer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::{Kind, ObjectKey};

type IndexFn<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// What an informer has seen last, by key and by index. Clones share the content.
///
/// Objects are immutable and shared: a reader keeps an `Arc`, never a lock.
pub struct Cache<K> {
    inner: Arc<RwLock<Inner<K>>>,
}

struct Inner<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    indexes: HashMap<&'static str, Index<K>>,
}

struct Index<K> {
    values_of: IndexFn<K>,
    keys: HashMap<String, HashSet<ObjectKey>>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K: Kind> Default for Cache<K> {
    fn default() -> Self {
        Self { inner: Arc::new(RwLock::new(Inner { objects: BTreeMap::new(), indexes: HashMap::new() })) }
    }
}

impl<K: Kind> Cache<K> {
    /// The object of a name; `namespace` is None for cluster-scoped kinds.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        self.get_key(&ObjectKey { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }

    /// The object of a key.
    pub fn get_key(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.inner.read().objects.get(key).cloned()
    }

    /// All objects, by key.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.inner.read().objects.values().cloned().collect()
    }

    /// All objects of a namespace, by name.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let first = ObjectKey::namespaced(namespace, "");
        let inner = self.inner.read();
        let of_namespace =
            inner.objects.range(first..).take_while(|(k, _)| k.namespace.as_deref() == Some(namespace));
        of_namespace.map(|(_, object)| object.clone()).collect()
    }

    /// All objects for which `keep` holds, by key.
    pub fn list_where(&self, keep: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.inner.read().objects.values().filter(|o| keep(o)).cloned().collect()
    }

    /// The objects whose index `name` (see [`crate::Informer::add_index`]) has `value`, by key. Empty without such an index.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let inner = self.inner.read();
        let Some(keys) = inner.indexes.get(name).and_then(|index| index.keys.get(value)) else {
            return Vec::new();
        };
        let mut keys: Vec<&ObjectKey> = keys.iter().collect();
        keys.sort();
        keys.into_iter().filter_map(|key| inner.objects.get(key).cloned()).collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.inner.read().objects.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn add_index(&self, name: &'static str, values_of: IndexFn<K>) {
        let mut inner = self.inner.write();
        if inner.indexes.contains_key(name) {
            return;
        }
        let mut index = Index { values_of, keys: HashMap::new() };
        for (key, object) in &inner.objects {
            index.insert(key, object);
        }
        inner.indexes.insert(name, index);
    }

    /// Puts `object` in; gives what was there.
    pub(crate) fn insert(&self, object: Arc<K>) -> Option<Arc<K>> {
        let key = ObjectKey::of(object.as_ref());
        let mut inner = self.inner.write();
        let Inner { objects, indexes } = &mut *inner;
        let old = objects.insert(key.clone(), object.clone());
        for index in indexes.values_mut() {
            if let Some(old) = &old {
                index.remove(&key, old);
            }
            index.insert(&key, &object);
        }
        old
    }

    pub(crate) fn remove(&self, key: &ObjectKey) -> Option<Arc<K>> {
        let mut inner = self.inner.write();
        let Inner { objects, indexes } = &mut *inner;
        let old = objects.remove(key)?;
        for index in indexes.values_mut() {
            index.remove(key, &old);
        }
        Some(old)
    }

    /// The keys now present.
    pub(crate) fn keys(&self) -> Vec<ObjectKey> {
        self.inner.read().objects.keys().cloned().collect()
    }
}

impl<K> Index<K> {
    fn insert(&mut self, key: &ObjectKey, object: &K) {
        for value in (self.values_of)(object) {
            self.keys.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &ObjectKey, object: &K) {
        for value in (self.values_of)(object) {
            if let Some(keys) = self.keys.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
    }
}
