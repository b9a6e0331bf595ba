//! Locks by name, for work that two callers must not do at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

type Slots<K> = HashMap<K, Weak<tokio::sync::Mutex<()>>>;

/// One lock per key, existing as long as somebody holds or waits for it.
pub struct KeyedLocks<K> {
    slots: Mutex<Slots<K>>,
}

impl<K> Default for KeyedLocks<K> {
    fn default() -> Self {
        Self { slots: Mutex::new(HashMap::new()) }
    }
}

impl<K: Eq + Hash + Clone> KeyedLocks<K> {
    /// Waits for the lock of `key`; it is free again when the guard is dropped.
    pub async fn lock(&self, key: &K) -> OwnedMutexGuard<()> {
        let lock = self.slot(key);
        lock.lock_owned().await
    }

    fn slot(&self, key: &K) -> Arc<tokio::sync::Mutex<()>> {
        let mut slots = self.slots.lock();
        slots.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = slots.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        slots.insert(key.clone(), Arc::downgrade(&lock));
        lock
    }
}
