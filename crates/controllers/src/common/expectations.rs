//! What a controller has done but not yet seen in its cache: until it has, it must not do it again (upstream's
//! ControllerExpectations).

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::{Duration, Instant};

use client::ObjectKey;
use parking_lot::Mutex;

/// After this long an expectation is given up: the change was lost or happened elsewhere.
const EXPECTATION_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Creations (counted) and deletions (by uid) that are expected for keys.
#[derive(Debug)]
pub struct Expectations<K = ObjectKey> {
    keys: Mutex<HashMap<K, Expected>>,
}

impl<K> Default for Expectations<K> {
    fn default() -> Self {
        Self { keys: Mutex::default() }
    }
}

#[derive(Debug)]
struct Expected {
    creations: i64,
    deletions: HashSet<String>,
    since: Instant,
}

impl<K: Eq + Hash + Clone> Expectations<K> {
    /// True when everything expected for `key` was seen, or enough time has passed.
    pub fn satisfied(&self, key: &K) -> bool {
        self.keys.lock().get(key).is_none_or(|e| {
            (e.creations <= 0 && e.deletions.is_empty()) || e.since.elapsed() > EXPECTATION_TIMEOUT
        })
    }

    /// Begins to expect `count` creations; to be called before they are made.
    pub fn expect_creations(&self, key: &K, count: usize) {
        let mut keys = self.keys.lock();
        let expected = entry(&mut keys, key);
        expected.creations = expected.creations.max(0) + count as i64;
        expected.since = Instant::now();
    }

    /// Begins to expect that the objects with these uids go; to be called before they are deleted.
    pub fn expect_deletions(&self, key: &K, uids: impl IntoIterator<Item = String>) {
        let mut keys = self.keys.lock();
        let expected = entry(&mut keys, key);
        expected.deletions.extend(uids);
        expected.since = Instant::now();
    }

    /// One expected creation was seen, or will not come.
    pub fn creation_observed(&self, key: &K) {
        self.creations_observed(key, 1);
    }

    /// Several expected creations will not come.
    pub fn creations_observed(&self, key: &K, count: usize) {
        if let Some(expected) = self.keys.lock().get_mut(key) {
            expected.creations -= count as i64;
        }
    }

    /// An expected deletion was seen, or will not come.
    pub fn deletion_observed(&self, key: &K, uid: &str) {
        if let Some(expected) = self.keys.lock().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// The uids whose deletion is still expected.
    pub fn expected_deletions(&self, key: &K) -> HashSet<String> {
        self.keys.lock().get(key).map(|e| e.deletions.clone()).unwrap_or_default()
    }

    /// Forgets a key whose object is gone.
    pub fn forget(&self, key: &K) {
        self.keys.lock().remove(key);
    }
}

fn entry<'a, K: Eq + Hash + Clone>(keys: &'a mut HashMap<K, Expected>, key: &K) -> &'a mut Expected {
    keys.entry(key.clone()).or_insert_with(|| Expected {
        creations: 0,
        deletions: HashSet::new(),
        since: Instant::now(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn satisfied_when_all_was_seen() {
        let expectations = Expectations::default();
        let key = ObjectKey::namespaced("ns", "web");
        assert!(expectations.satisfied(&key));
        expectations.expect_creations(&key, 2);
        expectations.creation_observed(&key);
        assert!(!expectations.satisfied(&key));
        expectations.creation_observed(&key);
        assert!(expectations.satisfied(&key));
        expectations.expect_deletions(&key, ["u1".to_owned()]);
        expectations.deletion_observed(&key, "other");
        assert!(!expectations.satisfied(&key));
        expectations.deletion_observed(&key, "u1");
        assert!(expectations.satisfied(&key));
    }
}
