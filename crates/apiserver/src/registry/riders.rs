//! Writes that are stored together with an object, in one transaction: a quota's usage with what it counts, the
//! addresses of a service with the service.

use std::sync::Arc;

use bytes::Bytes;
use schema::Value;
use store::{
    Compare, Delete, Durability, Entry, Key, KeyRange, Memo, Op, OpResult, Put, RangeOptions, Revision,
};
use store::{Store, Txn};

use super::{Registry, Served, stored};
use crate::status::ApiResult;

/// One such write.
#[derive(Clone)]
pub struct Rider {
    key: Key,
    /// What the key must be at; zero: it must not be there. None: whatever is there.
    revision: Option<Revision>,
    /// None deletes.
    value: Option<(Bytes, Memo)>,
}

impl std::fmt::Debug for Rider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rider")
            .field("key", &self.key)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// Why nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The object itself is not at the revision that was expected.
    Object,
    /// A rider is not.
    Rider,
}

impl Rider {
    /// Writes an object, in its stored version, if its key is still at `revision`.
    pub fn put(
        registry: &Registry,
        served: &Served,
        (namespace, name): (&str, &str),
        object: &Value,
        revision: Revision,
    ) -> ApiResult<Self> {
        let key = served.key(namespace, name);
        let encryption = registry.encryption.as_deref();
        let (bytes, memo) = stored::encode_sealed(object, &served.hub, &key, encryption)?;
        Ok(Self { key: key.into(), revision: Some(revision), value: Some((bytes, memo)) })
    }

    /// Deletes the object that is at `revision`.
    pub fn delete(entry: &Entry) -> Self {
        Self { key: entry.key.clone(), revision: Some(entry.mod_revision), value: None }
    }

    /// Writes it alone; false if it was not as expected.
    pub async fn store(self, store: &dyn Store) -> ApiResult<bool> {
        let compare = self.compare().into_iter().collect();
        let txn = Txn { compare, then: vec![self.operation()], ..Txn::default() };
        Ok(store.txn(txn).await?.succeeded)
    }

    fn compare(&self) -> Option<Compare> {
        self.revision.map(|revision| Compare::mod_revision(self.key.clone(), revision))
    }

    fn operation(self) -> Op {
        match self.value {
            Some((bytes, memo)) => Op::Put(Put::new(self.key, bytes).with_memo(memo)),
            None => Op::Delete(Delete { range: KeyRange::single(self.key) }),
        }
    }
}

/// A transaction of `first`, expected at `revision`, and the riders. If it fails the key is read.
fn transaction(key: &Key, revision: Revision, first: Op, riders: Vec<Rider>) -> Txn {
    let mut compare = vec![Compare::mod_revision(key.clone(), revision)];
    compare.extend(riders.iter().filter_map(Rider::compare));
    let mut then = vec![first];
    then.extend(riders.into_iter().map(Rider::operation));
    let range = KeyRange::single(key.clone());
    let otherwise = vec![Op::Range { range, options: RangeOptions::default() }];
    Txn { compare, then, otherwise, durability: Durability::Synced }
}

/// Who was not as expected, by what is at the object's key.
fn refused(there: Option<&Arc<Entry>>, revision: Revision) -> Refused {
    match there.map_or(Revision::ZERO, |entry| entry.mod_revision) == revision {
        true => Refused::Rider,
        false => Refused::Object,
    }
}

/// Writes an entry with riders, if it is at `revision`.
pub async fn put(
    store: &dyn Store,
    put: Put,
    revision: Revision,
    riders: Vec<Rider>,
) -> ApiResult<Result<Arc<Entry>, Refused>> {
    let key = put.key.clone();
    let outcome = store.txn(transaction(&key, revision, Op::Put(put), riders)).await?;
    Ok(match outcome.entry() {
        Some(entry) if outcome.succeeded => Ok(entry.clone()),
        there => Err(refused(there, revision)),
    })
}

/// Deletes an entry with riders, if it is at `revision`; gives the revision of the deletion.
pub async fn delete(
    store: &dyn Store,
    entry: &Entry,
    riders: Vec<Rider>,
) -> ApiResult<Result<Revision, Refused>> {
    let op = Op::Delete(Delete { range: KeyRange::single(entry.key.clone()) });
    let outcome = store.txn(transaction(&entry.key, entry.mod_revision, op, riders)).await?;
    Ok(match outcome.results.first() {
        Some(OpResult::Delete { deleted }) if !deleted.is_empty() => Ok(outcome.revision),
        _ => Err(refused(outcome.entry(), entry.mod_revision)),
    })
}
