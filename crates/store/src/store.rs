//! The trait that every store stands behind.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Delete, Durability, Entry, Error, Key, KeyRange, LeaseId, Op, OpResult, Put, Revision, Txn, TxnResult,
    WatchOptions, Watcher,
};

/// How a range is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RangeOptions {
    /// Entries to give at most; zero: all.
    pub limit: usize,
    /// The revision to read at; zero: the newest.
    pub revision: Revision,
    /// Only count.
    pub count_only: bool,
    /// Only keys and revisions are wanted. Entries of a store in memory come with values all the same: they are shared.
    pub keys_only: bool,
}

/// What a range read.
#[derive(Debug, Clone, Default)]
pub struct RangeResult {
    /// The store's revision when it was read; not that of [`RangeOptions::revision`].
    pub revision: Revision,
    /// In key order.
    pub entries: Vec<Arc<Entry>>,
    /// Whether there are more entries than the limit let through.
    pub more: bool,
    /// How many entries the range holds, limit or not.
    pub count: usize,
}

/// A lease as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseStatus {
    /// Its id.
    pub id: LeaseId,
    /// The time to live that it was granted, in seconds.
    pub granted_ttl_s: i64,
    /// What is left of it, in seconds, rounded up.
    pub ttl_s: i64,
    /// The keys that hang on it, in order.
    pub keys: Vec<Key>,
}

/// Looks at entries before anybody else does, and may hang memos on them: see [`Store::set_reader`].
#[async_trait]
pub trait EntryReader: Send + Sync {
    /// Looks at these. Nobody sees them, nor anything after them, before this returns.
    async fn read(&self, entries: &[&Entry]);
}

/// A store of entries at revisions, with etcd's semantics.
///
/// Reads are of the newest state this member has, and never wait. A caller that must see every write answered
/// anywhere before it asked calls [`Store::read_barrier`] first. Writes are answered when they are on disk (and in
/// a majority, if there are several members); the answer may come before or after watchers see the write, but never
/// before readers do. A write whose future is dropped may still happen.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads a range from one immutable snapshot.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::FutureRevision`], if a revision was asked for.
    fn range(&self, range: &KeyRange, options: RangeOptions) -> Result<RangeResult, Error>;

    /// The newest entry of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Arc<Entry>>, Error>;

    /// The revision of the newest state that reads see.
    fn current_revision(&self) -> Revision;

    /// Reads at a revision below this one, and watches from it or below, are refused.
    fn compact_revision(&self) -> Revision;

    /// Does a transaction; answered when durable, unless it is [`Durability::Relaxed`].
    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error>;

    /// Every change of the range from [`WatchOptions::start_revision`] on, without a gap.
    ///
    /// # Errors
    /// [`Error::Compacted`] if the start is no longer in the history.
    fn watch(&self, range: KeyRange, options: WatchOptions) -> Result<Watcher, Error>;

    /// Returns once reads see `revision`.
    async fn wait_for(&self, revision: Revision) -> Result<(), Error>;

    /// Returns once reads see every write that was answered, by any member, before the call. Gives their revision.
    async fn read_barrier(&self) -> Result<Revision, Error>;

    /// Forgets the history up to `revision`: the state at it can still be read, nothing before.
    async fn compact(&self, revision: Revision) -> Result<(), Error>;

    /// Makes a lease that ends `ttl_s` seconds from now unless kept alive. With [`LeaseId::NONE`] the store chooses
    /// the id.
    async fn lease_grant(&self, id: LeaseId, ttl_s: i64) -> Result<LeaseStatus, Error>;

    /// Ends a lease now; its keys are deleted at one revision. Gives the store's revision after that.
    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, Error>;

    /// Starts a lease's time anew.
    async fn lease_keep_alive(&self, id: LeaseId) -> Result<LeaseStatus, Error>;

    /// A lease with its keys.
    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus, Error>;

    /// The ids of all leases, in order.
    async fn leases(&self) -> Result<Vec<LeaseId>, Error>;

    /// Whether answered writes survive a crash: false for a store in memory only, and after a write to disk failed.
    fn is_durable(&self) -> bool;

    /// Whether writes are taken; the error that they are refused with if not. For health checks.
    fn health(&self) -> Result<(), Error>;

    /// Shows `reader` every entry from now on that was not written here before anybody else sees it. A store with no
    /// other writers has none to show. Only the first call has an effect.
    fn set_reader(&self, reader: Arc<dyn EntryReader>) {
        drop(reader);
    }

    /// Writes a key that must not be there yet. The entry that is there otherwise.
    async fn create(&self, put: Put) -> Result<Result<Arc<Entry>, Option<Arc<Entry>>>, Error> {
        self.update_if(put, Revision::ZERO, Durability::Synced).await
    }

    /// Writes a key if it was last written at `mod_revision`. The entry that is there otherwise, if any.
    async fn update_if(
        &self,
        put: Put,
        mod_revision: Revision,
        durability: Durability,
    ) -> Result<Result<Arc<Entry>, Option<Arc<Entry>>>, Error> {
        let key = put.key.clone();
        let txn = Txn { durability, ..Txn::if_at(&key, mod_revision, Op::Put(put)) };
        let outcome = self.txn(txn).await?;
        let entry = outcome.entry().cloned();
        Ok(match entry {
            Some(entry) if outcome.succeeded => Ok(entry),
            other => Err(other),
        })
    }

    /// Deletes a key if it was last written at `mod_revision`: the revision of the deletion and what was there. The
    /// entry that is there otherwise, if any.
    async fn delete_if(
        &self,
        key: Key,
        mod_revision: Revision,
    ) -> Result<Result<(Revision, Arc<Entry>), Option<Arc<Entry>>>, Error> {
        let op = Op::Delete(Delete { range: KeyRange::single(key.clone()) });
        let mut outcome = self.txn(Txn::if_at(&key, mod_revision, op)).await?;
        Ok(match outcome.results.pop() {
            Some(OpResult::Delete { mut deleted }) => match deleted.pop() {
                Some(entry) => Ok((outcome.revision, entry)),
                None => Err(None),
            },
            Some(OpResult::Range(mut read)) => Err(read.entries.pop()),
            _ => Err(None),
        })
    }
}
