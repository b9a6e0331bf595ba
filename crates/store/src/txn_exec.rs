//! Executing transactions on a state.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::history::{Change, Map};
use crate::keyspace::{Keyspace, entries};
use crate::state::State;
use crate::{
    Compare, CompareOp, CompareTarget, Delete, Entry, Error, Event, Key, KeyRange, LeaseId, MAX_KEY_BYTES,
    MAX_REQUEST_BYTES, MAX_TXN_DEPTH, MAX_TXN_OPS, Op, OpResult, Put, RangeOptions, RangeResult, Revision,
    Txn, TxnResult,
};

/// Refuses what no state could make valid: too large, too deep, without a key.
pub(crate) fn check_limits(txn: &Txn) -> Result<(), Error> {
    fn visit(txn: &Txn, depth: usize, bytes: &mut usize) -> Result<(), Error> {
        if depth > MAX_TXN_DEPTH {
            return Err(Error::TooLarge { what: "transaction depth", size: depth, limit: MAX_TXN_DEPTH });
        }
        let lengths = [txn.compare.len(), txn.then.len(), txn.otherwise.len()];
        if let Some(size) = lengths.into_iter().find(|length| *length > MAX_TXN_OPS) {
            return Err(Error::TooLarge { what: "operations in a transaction", size, limit: MAX_TXN_OPS });
        }
        for op in txn.then.iter().chain(&txn.otherwise) {
            match op {
                Op::Put(put) => {
                    check_key(&put.key)?;
                    *bytes += put.key.len() + put.value.len();
                }
                Op::Delete(Delete { range }) | Op::Range { range, .. } => *bytes += range.start().len(),
                Op::Txn(inner) => visit(inner, depth + 1, bytes)?,
            }
        }
        Ok(())
    }
    let mut size = 0;
    visit(txn, 1, &mut size)?;
    if size > MAX_REQUEST_BYTES {
        return Err(Error::TooLarge { what: "request", size, limit: MAX_REQUEST_BYTES });
    }
    Ok(())
}

fn check_key(key: &Key) -> Result<(), Error> {
    match key.len() {
        0 => Err(Error::Invalid("key is not provided")),
        size if size > MAX_KEY_BYTES => Err(Error::TooLarge { what: "key", size, limit: MAX_KEY_BYTES }),
        _ => Ok(()),
    }
}

/// A transaction being done. Everything is checked before anything is changed, so a failing one leaves no trace.
pub(crate) struct Execution<'a> {
    state: &'a mut State,
    /// Where reads of older revisions go.
    keyspace: &'a Keyspace,
    /// The entries before the transaction, if it reads at a revision.
    before: Option<Map>,
    /// The outcome of each transaction's comparisons, outer before inner.
    branches: Vec<bool>,
    /// Reads below this are refused.
    compacted: Revision,
    revision: Revision,
    events: Vec<Event>,
}

impl<'a> Execution<'a> {
    /// Does `txn`, whose limits have been checked. The state's revision goes up if something changed.
    pub(crate) fn run(
        state: &'a mut State,
        keyspace: &'a Keyspace,
        quota_bytes: usize,
        txn: Txn,
    ) -> Result<(TxnResult, Option<Change>), Error> {
        Self::run_at(state, keyspace, quota_bytes, keyspace.compact_revision(), txn)
    }

    /// The same, refusing reads below `compacted`: what else a member has forgotten must not decide what is done.
    pub(crate) fn run_at(
        state: &'a mut State,
        keyspace: &'a Keyspace,
        quota_bytes: usize,
        compacted: Revision,
        txn: Txn,
    ) -> Result<(TxnResult, Option<Change>), Error> {
        let revision = state.revision.next();
        let (branches, events) = (Vec::new(), Vec::new());
        let before = reads_at_revision(&txn).then(|| state.map.clone());
        let mut this = Self { state, keyspace, before, branches, compacted, revision, events };
        this.decide(&txn);
        this.check(&txn, quota_bytes)?;
        let mut branches = std::mem::take(&mut this.branches).into_iter();
        let mut result = this.txn(txn, &mut branches);
        if this.events.is_empty() {
            return Ok((result, None));
        }
        let Self { state, events, .. } = this;
        state.revision = revision;
        result.revision = revision;
        Ok((result, Some(Change { revision, events: events.into() })))
    }

    /// All comparisons see the state before the outermost transaction.
    fn decide(&mut self, txn: &Txn) {
        let holds = txn.compare.iter().all(|compare| self.holds(compare));
        self.branches.push(holds);
        for op in branch(txn, holds) {
            if let Op::Txn(inner) = op {
                self.decide(inner);
            }
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut any = false;
        let all = entries(&self.state.map, &compare.range).all(|entry| {
            any = true;
            compare_entry(compare, entry)
        });
        if any { all } else { compare_absent(compare) }
    }

    fn check(&self, txn: &Txn, quota_bytes: usize) -> Result<(), Error> {
        let mut plan = Plan::default();
        let mut branches = self.branches.iter().copied();
        self.check_branch(txn, &mut branches, &mut plan)?;
        if plan.bytes > 0 && self.state.bytes.saturating_add(plan.bytes) > quota_bytes {
            return Err(Error::NoSpace(format!("database space exceeded: the quota is {quota_bytes} bytes")));
        }
        Ok(())
    }

    fn check_branch<'t>(
        &self,
        txn: &'t Txn,
        branches: &mut impl Iterator<Item = bool>,
        plan: &mut Plan<'t>,
    ) -> Result<(), Error> {
        for op in branch(txn, branches.next().unwrap_or(false)) {
            match op {
                Op::Put(put) => {
                    self.check_put(put)?;
                    plan.bytes += put.key.len() + put.value.len();
                    if !plan.put.insert(&put.key) {
                        return Err(Error::Invalid("duplicate key given in txn request"));
                    }
                }
                // What is put and deleted at one revision is told in that order; who minds refuses it before.
                Op::Delete(_) => {}
                Op::Range { options, .. } => self.check_revision(*options)?,
                Op::Txn(inner) => self.check_branch(inner, branches, plan)?,
            }
        }
        Ok(())
    }

    fn check_put(&self, put: &Put) -> Result<(), Error> {
        if put.ignore_value && !put.value.is_empty() {
            return Err(Error::Invalid("value is provided"));
        }
        if put.ignore_lease && !put.lease.is_none() {
            return Err(Error::Invalid("lease is provided"));
        }
        if !put.lease.is_none() && !self.state.leases.contains(put.lease) {
            return Err(Error::LeaseNotFound(put.lease));
        }
        if (put.ignore_value || put.ignore_lease) && !self.state.map.contains_key(&put.key) {
            return Err(Error::Invalid("key not found"));
        }
        Ok(())
    }

    fn check_revision(&self, options: RangeOptions) -> Result<(), Error> {
        if options.revision > self.state.revision {
            return Err(Error::FutureRevision { current: self.state.revision });
        }
        if !options.revision.is_zero() && options.revision < self.compacted {
            return Err(Error::Compacted { compact_revision: self.compacted });
        }
        Ok(())
    }

    fn txn(&mut self, txn: Txn, branches: &mut std::vec::IntoIter<bool>) -> TxnResult {
        let succeeded = branches.next().unwrap_or(false);
        let ops = if succeeded { txn.then } else { txn.otherwise };
        let results = ops.into_iter().map(|op| self.op(op, branches)).collect();
        TxnResult { revision: self.state.revision, succeeded, results }
    }

    fn op(&mut self, op: Op, branches: &mut std::vec::IntoIter<bool>) -> OpResult {
        match op {
            Op::Put(put) => self.put(put),
            Op::Delete(Delete { range }) => OpResult::Delete { deleted: self.delete(&range) },
            Op::Range { range, options } => OpResult::Range(self.range(&range, options)),
            Op::Txn(inner) => OpResult::Txn(self.txn(*inner, branches)),
        }
    }

    fn put(&mut self, put: Put) -> OpResult {
        let prev = self.state.map.get(&put.key);
        let value = match prev {
            Some(prev) if put.ignore_value => prev.value.clone(),
            _ => put.value,
        };
        let lease = match prev {
            Some(prev) if put.ignore_lease => prev.lease,
            _ => put.lease,
        };
        let event = self.state.put(put.key, value, lease, self.revision, put.memo);
        let (entry, prev) = (event.entry.clone(), event.prev.clone());
        self.events.push(event);
        OpResult::Put { entry, prev }
    }

    fn delete(&mut self, range: &KeyRange) -> Vec<Arc<Entry>> {
        let deleted: Vec<Arc<Entry>> = entries(&self.state.map, range).cloned().collect();
        for entry in &deleted {
            self.events.extend(self.state.delete(&entry.key, self.revision));
        }
        deleted
    }

    fn range(&self, range: &KeyRange, options: RangeOptions) -> RangeResult {
        let read = |map| crate::keyspace::read(map, range, options, self.state.revision);
        if options.revision.is_zero() {
            return read(&self.state.map);
        }
        // The revision before the transaction does not have what it has written so far.
        if let Some(before) = self.before.as_ref().filter(|_| options.revision == self.state.revision) {
            return read(before);
        }
        // Checked before; what a concurrent compaction takes in between reads as nothing.
        self.keyspace.range(range, options).unwrap_or_default()
    }
}

/// Whether a transaction may read at a revision that it names.
fn reads_at_revision(txn: &Txn) -> bool {
    txn.then.iter().chain(&txn.otherwise).any(|op| match op {
        Op::Range { options, .. } => !options.revision.is_zero(),
        Op::Txn(inner) => reads_at_revision(inner),
        Op::Put(_) | Op::Delete(_) => false,
    })
}

/// What a transaction is about to do.
#[derive(Default)]
struct Plan<'t> {
    put: BTreeSet<&'t Key>,
    bytes: usize,
}

/// Deletes the keys of a lease that ended.
pub(crate) fn revoke(state: &mut State, id: LeaseId) -> Option<Option<Change>> {
    let keys = state.leases.revoke(id)?;
    let revision = state.revision.next();
    let events: Vec<Event> = keys.iter().filter_map(|key| state.delete(key, revision)).collect();
    if events.is_empty() {
        return Some(None);
    }
    state.revision = revision;
    Some(Some(Change { revision, events: events.into() }))
}

fn branch(txn: &Txn, holds: bool) -> &[Op] {
    if holds { &txn.then } else { &txn.otherwise }
}

fn compare_entry(compare: &Compare, entry: &Entry) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let ordering = match &compare.target {
        CompareTarget::ModRevision(revision) => entry.mod_revision.cmp(revision),
        CompareTarget::CreateRevision(revision) => entry.create_revision.cmp(revision),
        CompareTarget::Version(version) => entry.version.cmp(version),
        CompareTarget::Value(value) => entry.value.cmp(value),
        CompareTarget::Lease(lease) => entry.lease.cmp(lease),
    };
    match compare.op {
        CompareOp::Equal => ordering == Equal,
        CompareOp::NotEqual => ordering != Equal,
        CompareOp::Greater => ordering == Greater,
        CompareOp::Less => ordering == Less,
    }
}

fn compare_absent(compare: &Compare) -> bool {
    if matches!(compare.target, CompareTarget::Value(_)) {
        return false;
    }
    let at = (Revision::ZERO, Revision::ZERO, 0);
    compare_entry(compare, &Entry::new(Key::from(""), bytes::Bytes::new(), at, LeaseId::NONE))
}
