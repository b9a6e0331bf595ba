//! What the store holds under a key.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{Key, LeaseId, Revision};

/// A value that a reader derived from an entry and hangs on it for all others.
pub type Memo = Arc<dyn Any + Send + Sync>;

/// One version of one key. Never changes, and is shared by the keyspace, the history, events and all readers.
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The stored bytes.
    pub value: Bytes,
    /// When the key came to be (this time).
    pub create_revision: Revision,
    /// When this version was written.
    pub mod_revision: Revision,
    /// 1 for the first version since the key came to be.
    pub version: u64,
    /// The lease that removes the key when it ends.
    pub lease: LeaseId,
    memo: OnceLock<Memo>,
}

impl Entry {
    /// A version without memo.
    pub fn new(
        key: Key,
        value: Bytes,
        (create_revision, mod_revision, version): (Revision, Revision, u64),
        lease: LeaseId,
    ) -> Self {
        Self { key, value, create_revision, mod_revision, version, lease, memo: OnceLock::new() }
    }

    /// Hangs `memo` on the entry unless one is there already.
    pub fn set_memo(&self, memo: Memo) {
        let _ = self.memo.set(memo);
    }

    /// The memo, if one of type `T` is there.
    pub fn memo<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.memo.get()?.clone().downcast().ok()
    }

    /// The memo of type `T`, made by `init` if none is there. The slot holds one memo: if one of another type is
    /// there, what `init` gives is returned and not kept.
    pub fn memo_or_init<T: Any + Send + Sync>(&self, init: impl FnOnce(&Self) -> T) -> Arc<T> {
        match self.memo.get() {
            Some(memo) => memo.clone().downcast().unwrap_or_else(|_| Arc::new(init(self))),
            None => {
                let made = Arc::new(init(self));
                match self.memo.get_or_init(|| made.clone()).clone().downcast() {
                    Ok(kept) => kept,
                    Err(_) => made,
                }
            }
        }
    }

    /// Bytes of key and value, the measure of the store's limits.
    pub fn size(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} @{} (created {}, version {}, lease {}, {} bytes)",
            self.key,
            self.mod_revision,
            self.create_revision,
            self.version,
            self.lease,
            self.value.len()
        )
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.mod_revision == other.mod_revision
            && self.key == other.key
            && self.create_revision == other.create_revision
            && self.version == other.version
            && self.lease == other.lease
            && self.value == other.value
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_is_made_once_and_typed() {
        let entry = Entry::new("k".into(), Bytes::from_static(b"v"), (1.into(), 1.into(), 1), LeaseId::NONE);
        assert!(entry.memo::<String>().is_none());
        assert_eq!(*entry.memo_or_init(|e| e.key.to_string()), "k");
        assert_eq!(*entry.memo_or_init(|_| "other".to_owned()), "k");
        assert_eq!(*entry.memo_or_init(|_| 7_u8), 7);
        assert!(entry.memo::<u8>().is_none());
    }
}
