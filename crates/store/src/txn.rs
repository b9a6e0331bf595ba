//! Transactions: comparisons, and operations for either outcome, at one revision.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Entry, Key, KeyRange, LeaseId, Memo, RangeOptions, RangeResult, Revision};

/// If all of `compare` hold then `then`, else `otherwise`; atomic, and at one revision if anything changes.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    /// All must hold. None: they do.
    pub compare: Vec<Compare>,
    /// Done, in this order, if the comparisons hold.
    pub then: Vec<Op>,
    /// Done, in this order, if they do not.
    pub otherwise: Vec<Op>,
    /// When the answer may come. Ignored in nested transactions.
    pub durability: Durability,
}

impl Txn {
    /// A transaction of one operation without comparisons.
    pub fn of(op: Op) -> Self {
        Self { then: vec![op], ..Self::default() }
    }

    /// `op` if the key is at `revision` (zero: if there is no such key); else the key's entry is read.
    pub fn if_at(key: &Key, revision: Revision, op: Op) -> Self {
        Self {
            compare: vec![Compare::mod_revision(key.clone(), revision)],
            then: vec![op],
            otherwise: vec![Op::Range {
                range: KeyRange::single(key.clone()),
                options: RangeOptions::default(),
            }],
            durability: Durability::Synced,
        }
    }
}

/// When a write is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// After it is on disk.
    #[default]
    Synced,
    /// At once; it is on disk within [`crate::RELAXED_SYNC`]. For node leases, and for nothing else.
    Relaxed,
}

/// One comparison. Over a range it holds if it holds for every key there. A key that is not there has revisions and
/// version zero and no lease, and no comparison of its value holds.
#[derive(Debug, Clone)]
pub struct Compare {
    /// Whose entries.
    pub range: KeyRange,
    /// How.
    pub op: CompareOp,
    /// What of them, and with what.
    pub target: CompareTarget,
}

impl Compare {
    /// `key` was last written at `revision`; zero: there is no such key.
    pub fn mod_revision(key: impl Into<Key>, revision: Revision) -> Self {
        let target = CompareTarget::ModRevision(revision);
        Self { range: KeyRange::single(key), op: CompareOp::Equal, target }
    }
}

/// How an entry's value stands to the one given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    /// They are the same.
    Equal,
    /// They differ.
    NotEqual,
    /// The entry's is greater.
    Greater,
    /// The entry's is less.
    Less,
}

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareTarget {
    /// [`Entry::mod_revision`].
    ModRevision(Revision),
    /// [`Entry::create_revision`].
    CreateRevision(Revision),
    /// [`Entry::version`].
    Version(u64),
    /// [`Entry::value`].
    Value(Bytes),
    /// [`Entry::lease`].
    Lease(LeaseId),
}

/// An operation of a transaction.
#[derive(Debug, Clone)]
pub enum Op {
    /// Writes a key.
    Put(Put),
    /// Removes keys.
    Delete(Delete),
    /// Reads keys, as they are at this point of the transaction.
    Range {
        /// Which keys.
        range: KeyRange,
        /// How.
        options: RangeOptions,
    },
    /// A transaction within: its comparisons see the keys as before the outer one's changes, as etcd has it.
    Txn(Box<Txn>),
}

/// Writes one key.
#[derive(Clone)]
pub struct Put {
    /// The key; not empty.
    pub key: Key,
    /// The new value.
    pub value: Bytes,
    /// The lease that the key shall hang on.
    pub lease: LeaseId,
    /// Keep the value that the key has; it must be there.
    pub ignore_value: bool,
    /// Keep the lease that the key has; it must be there.
    pub ignore_lease: bool,
    /// Hung on the entry that is written, see [`Entry::memo`]. Not stored.
    pub memo: Option<Memo>,
}

impl Put {
    /// `value` under `key`, without a lease.
    pub fn new(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            lease: LeaseId::NONE,
            ignore_value: false,
            ignore_lease: false,
            memo: None,
        }
    }

    /// The same, hanging on `lease`.
    #[must_use]
    pub fn with_lease(mut self, lease: LeaseId) -> Self {
        self.lease = lease;
        self
    }

    /// The same, with `memo` hung on the new entry.
    #[must_use]
    pub fn with_memo(mut self, memo: Memo) -> Self {
        self.memo = Some(memo);
        self
    }
}

impl std::fmt::Debug for Put {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Put")
            .field("key", &self.key)
            .field("bytes", &self.value.len())
            .finish_non_exhaustive()
    }
}

/// Removes the keys of a range.
#[derive(Debug, Clone)]
pub struct Delete {
    /// Which keys.
    pub range: KeyRange,
}

/// What a transaction did.
#[derive(Debug, Clone)]
pub struct TxnResult {
    /// The store's revision after it: its own if it changed something.
    pub revision: Revision,
    /// Whether the comparisons held.
    pub succeeded: bool,
    /// One per operation of the branch taken.
    pub results: Vec<OpResult>,
}

impl TxnResult {
    /// The entry that the first operation wrote or read.
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        match self.results.first()? {
            OpResult::Put { entry, .. } => Some(entry),
            OpResult::Range(read) => read.entries.first(),
            OpResult::Delete { .. } | OpResult::Txn(_) => None,
        }
    }
}

/// What an operation did.
#[derive(Debug, Clone)]
pub enum OpResult {
    /// A key was written.
    Put {
        /// What is there now.
        entry: Arc<Entry>,
        /// What was there before.
        prev: Option<Arc<Entry>>,
    },
    /// Keys were removed.
    Delete {
        /// What was there, in key order.
        deleted: Vec<Arc<Entry>>,
    },
    /// Keys were read.
    Range(RangeResult),
    /// A nested transaction ran.
    Txn(TxnResult),
}
