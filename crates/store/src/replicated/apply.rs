//! Applying requests to the state: the same on every member, whatever its clock, limits and memory.

use std::sync::Arc;

use raft::Entry;
use tokio::sync::oneshot;

use super::request::Request;
use crate::history::Change;
use crate::keyspace::Keyspace;
use crate::lease::Moment;
use crate::state::State;
use crate::txn_exec::{Execution, revoke};
use crate::{Error, LeaseStatus, Revision, Setting, TxnResult};

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Who waits for what a request does.
pub(crate) enum Waiter {
    Txn(Reply<TxnResult>),
    Lease(Reply<LeaseStatus>),
    Revision(Reply<Revision>),
    Done(Reply<()>),
    Version(Reply<u64>),
    Nobody,
}

/// What a request did.
pub(crate) enum Outcome {
    Txn(TxnResult),
    Lease(LeaseStatus),
    Revision(Revision),
    Done,
    Version(u64),
}

impl Waiter {
    /// Whoever waited may have gone away.
    pub(crate) fn answer(self, outcome: Result<Outcome, Error>) {
        match (self, outcome) {
            (Self::Txn(reply), Ok(Outcome::Txn(result))) => _ = reply.send(Ok(result)),
            (Self::Lease(reply), Ok(Outcome::Lease(status))) => _ = reply.send(Ok(status)),
            (Self::Revision(reply), Ok(Outcome::Revision(revision))) => _ = reply.send(Ok(revision)),
            (Self::Version(reply), Ok(Outcome::Version(version))) => _ = reply.send(Ok(version)),
            (Self::Done(reply), Ok(_)) => _ = reply.send(Ok(())),
            (waiter, Err(error)) => waiter.refuse(error),
            (waiter, Ok(_)) => waiter.refuse(Error::Invalid("the request did something else")),
        }
    }

    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Txn(reply) => _ = reply.send(Err(error)),
            Self::Lease(reply) => _ = reply.send(Err(error)),
            Self::Revision(reply) => _ = reply.send(Err(error)),
            Self::Version(reply) => _ = reply.send(Err(error)),
            Self::Done(reply) => _ = reply.send(Err(error)),
            Self::Nobody => {}
        }
    }
}

/// The state with everything applied; what readers see, but while a batch is being applied.
pub(crate) struct Applier {
    pub(crate) state: State,
    /// The history up to here was given up by request.
    pub(crate) compacted: Revision,
    pub(crate) keyspace: Arc<Keyspace>,
    changes: Vec<Change>,
    compact: Option<Revision>,
    dirty: bool,
}

impl Applier {
    pub(crate) fn new(state: State, compacted: Revision, keyspace: Arc<Keyspace>) -> Self {
        Self { state, compacted, keyspace, changes: Vec::new(), compact: None, dirty: false }
    }

    pub(crate) fn apply(&mut self, request: Request, now: Moment) -> Result<Outcome, Error> {
        self.dirty = true;
        match request {
            Request::Txn(txn) => {
                let (keyspace, compacted) = (self.keyspace.clone(), self.compacted);
                let (result, change) =
                    Execution::run_at(&mut self.state, &keyspace, usize::MAX, compacted, txn)?;
                self.changes.extend(change);
                Ok(Outcome::Txn(result))
            }
            Request::LeaseGrant { id, ttl_s } => {
                if self.state.leases.contains(id) {
                    return Err(Error::LeaseExists(id));
                }
                self.state.leases.grant(id, ttl_s, now);
                Ok(Outcome::Lease(self.state.leases.status(id, now.instant).unwrap_or_default()))
            }
            Request::LeaseRevoke { id } => {
                let change = revoke(&mut self.state, id).ok_or(Error::LeaseNotFound(id))?;
                self.changes.extend(change);
                Ok(Outcome::Revision(self.state.revision))
            }
            Request::Compact { revision } => self.compact(revision),
            Request::Setting { name, expected, value } => {
                if self.state.settings.get(&name).map_or(0, |setting| setting.version) != expected {
                    return Err(Error::SettingChanged);
                }
                let version = expected + 1;
                self.state.settings.insert(name, Setting { version, value });
                Ok(Outcome::Version(version))
            }
        }
    }

    fn compact(&mut self, revision: Revision) -> Result<Outcome, Error> {
        if revision > self.state.revision {
            return Err(Error::FutureRevision { current: self.state.revision });
        }
        if revision <= self.compacted {
            return Err(Error::Compacted { compact_revision: self.compacted });
        }
        self.compacted = revision;
        self.compact = Some(revision);
        Ok(Outcome::Done)
    }

    /// Applies an entry of the log without anybody waiting.
    pub(crate) fn replay(&mut self, entry: &Entry, now: Moment) {
        if let raft::Payload::Data(data) = &entry.payload {
            let request = Request::stamp(data).and_then(|(_, body)| Request::decode(body));
            // What it answers, refusals too, was told long ago.
            request.into_iter().for_each(|request| _ = self.apply(request, now));
        }
    }

    /// Shows readers what was applied. What it gives goes to the watchers once the answers are out.
    pub(crate) fn publish(&mut self, now: Moment) -> Vec<Change> {
        if !std::mem::take(&mut self.dirty) {
            return Vec::new();
        }
        let changes = std::mem::take(&mut self.changes);
        self.keyspace.publish(self.state.clone(), &changes, now.instant);
        if let Some(revision) = self.compact.take() {
            self.keyspace.compact(revision);
        }
        changes
    }

    /// Starts anew with the state of a snapshot.
    pub(crate) fn replace(&mut self, state: State, compacted: Revision) {
        self.state = state.clone();
        self.compacted = compacted;
        self.changes.clear();
        self.compact = None;
        self.keyspace.replace(state);
    }

    /// Makes every lease last its whole time again: who led before may have kept it alive since.
    pub(crate) fn extend_leases(&mut self, now: Moment) {
        for id in self.state.leases.ids() {
            self.state.leases.renew(id, now);
        }
    }
}
