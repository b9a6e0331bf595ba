//! The store of a cluster: every member applies the same log of requests, which Raft keeps.
//!
//! One member alone goes the same way with a majority of one. Reads are of the own state; what must see everything that
//! was answered anywhere waits for [`Store::read_barrier`]. The history can be compacted by request only as far as all
//! members agree; what else a member forgets (by its limits, or by a restart) is its own.

mod apply;
mod cluster;
#[cfg(test)]
mod crash_tests;
mod driver;
mod inbox;
mod leader;
mod members;
mod open;
mod peer;
mod persist;
mod reads;
mod request;
mod snapshots;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{oneshot, watch};

use apply::{Reply, Waiter};
use inbox::{Inbox, Input};
use members::Members;
use peer::{Ask, Told};
use request::Request;

pub use members::{decode_members, encode_members};
pub(crate) use open::first_identity;
pub use peer::{NoTransport, Transport};
pub(crate) use persist::with_identity;

use crate::keyspace::Keyspace;
use crate::txn_exec::check_limits;
use crate::{
    ClusterError, Config, Entry, Error, KeyRange, LeaseId, LeaseStatus, Member, MemberId, MemberStatus,
    RangeOptions, RangeResult, Revision, Store, Txn, TxnResult, WatchOptions, Watcher,
};

/// The setting that a member's snapshots tell its identity in; clients cannot have one of that name.
pub(crate) const IDENTITY: &str = "\0member";

/// How a member begins if its data directory holds none yet.
#[derive(Debug, Clone)]
pub enum Start {
    /// With the first members of a new cluster, itself among them. A data directory of an embedded store becomes that
    /// of the only member.
    New(Vec<Member>),
    /// As a member that others have added; they tell it everything else.
    Join(Vec<Member>),
}

/// How a member is kept.
#[derive(Debug, Clone)]
pub struct MemberConfig {
    /// Its data.
    pub store: Config,
    /// Itself. The id is used if the data directory does not say another.
    pub member: Member,
    /// The cluster; used if the data directory holds none.
    pub cluster_id: u64,
    /// How it begins.
    pub start: Start,
    /// Makes it the only member of a cluster with the data that it has (etcd `--force-new-cluster`). What others had and
    /// it has not is lost.
    pub force_new_cluster: bool,
    /// Between a leader's signs of life (etcd `--heartbeat-interval`).
    pub heartbeat: Duration,
    /// Without a leader an election begins after this, up to twice that (etcd `--election-timeout`).
    pub election: Duration,
}

/// What the thread shows to others.
pub(crate) struct Shared {
    status: Mutex<MemberStatus>,
    members: RwLock<Arc<Members>>,
    health: Mutex<Option<Error>>,
    /// The member leads, and is alone: everything answered is in its state.
    alone: AtomicBool,
    removed: watch::Sender<bool>,
    has_leader: watch::Sender<bool>,
}

impl Shared {
    fn new(members: Members, status: MemberStatus) -> Arc<Self> {
        let members = RwLock::new(Arc::new(members));
        let (health, alone) = (Mutex::new(None), AtomicBool::new(false));
        Arc::new(Self {
            status: Mutex::new(status),
            members,
            health,
            alone,
            removed: watch::Sender::new(false),
            has_leader: watch::Sender::new(false),
        })
    }

    fn set_health(&self, error: Option<Error>) {
        *self.health.lock() = error;
    }

    fn set_members(&self, members: &Members) {
        *self.members.write() = Arc::new(members.clone());
    }
}

/// See the module. Clones are the same store; [`Replicated::close`] ends it, and so does dropping the last one.
#[derive(Clone)]
pub struct Replicated(Arc<Inner>);

struct Inner {
    keyspace: Arc<Keyspace>,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.inbox.push(Input::Close(oneshot::channel().0));
    }
}

impl Replicated {
    /// Takes a frame that another member's [`Transport`] carried here. Never waits.
    pub fn deliver(&self, frame: Bytes) {
        self.0.inbox.push(Input::Frame(frame));
    }

    /// The cluster's id, and who its members are as far as this one knows, for those who want to join.
    pub fn member_list(&self) -> (u64, Vec<Member>) {
        let members = self.0.shared.members.read().clone();
        (members.cluster_id, members.to_vec())
    }

    /// Whether a member was removed; it must not be listened to.
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.0.shared.members.read().removed.contains(&id)
    }

    /// Returns when this member has been removed from the cluster.
    pub async fn removed(&self) {
        let mut removed = self.0.shared.removed.subscribe();
        // The sender lives as long as this store does.
        _ = removed.wait_for(|removed| *removed).await;
    }

    /// Answers what was asked, leaves all of it on disk, and ends. Calls after it fail with [`Error::Closed`].
    pub async fn close(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.0.inbox.push(Input::Close(reply));
        let result = answer.await.unwrap_or(Err(Error::Closed));
        let threads = std::mem::take(&mut *self.0.threads.lock());
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| _ = thread.join()));
        // A thread that panicked has ended, too.
        _ = joined.await;
        match result {
            Err(Error::Closed) => Ok(()),
            other => other,
        }
    }

    async fn send<T, E>(&self, input: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Input) -> Result<T, E>
    where
        E: From<Error>,
    {
        self.0.inbox.place().await?;
        let (reply, answer) = oneshot::channel();
        self.0.inbox.push(input(reply));
        answer.await.unwrap_or(Err(Error::Closed.into()))
    }

    async fn request<T>(
        &self,
        request: Request,
        waiter: impl FnOnce(Reply<T>) -> Waiter,
    ) -> Result<T, Error> {
        self.send(|reply| Input::Request(request, waiter(reply))).await
    }

    async fn lease(&self, ask: Ask) -> Result<LeaseStatus, Error> {
        match self.send(|reply| Input::Ask(ask, reply)).await {
            Ok(Told::Lease(status)) => Ok(status),
            Ok(Told::Member(_)) => Err(Error::Timeout),
            Err(ClusterError::Store(error)) => Err(error),
            Err(_) => Err(Error::Timeout),
        }
    }
}

#[async_trait]
impl Store for Replicated {
    fn range(&self, range: &KeyRange, options: RangeOptions) -> Result<RangeResult, Error> {
        self.0.keyspace.range(range, options)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Arc<Entry>>, Error> {
        Ok(self.0.keyspace.get(key))
    }

    fn current_revision(&self) -> Revision {
        self.0.keyspace.state().revision
    }

    fn compact_revision(&self) -> Revision {
        self.0.keyspace.compact_revision()
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        check_limits(&txn)?;
        self.request(Request::Txn(txn), Waiter::Txn).await
    }

    fn watch(&self, range: KeyRange, options: WatchOptions) -> Result<Watcher, Error> {
        Keyspace::watch(&self.0.keyspace, range, options)
    }

    async fn wait_for(&self, revision: Revision) -> Result<(), Error> {
        self.0.keyspace.wait_for(revision).await
    }

    async fn read_barrier(&self) -> Result<Revision, Error> {
        if self.0.shared.alone.load(Ordering::Acquire) {
            // Writes are shown before they are answered, and nobody else answers any.
            return Ok(self.current_revision());
        }
        self.send(Input::Read).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.request(Request::Compact { revision }, Waiter::Done).await
    }

    async fn lease_grant(&self, id: LeaseId, ttl_s: i64) -> Result<LeaseStatus, Error> {
        self.request(Request::LeaseGrant { id, ttl_s }, Waiter::Lease).await
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, Error> {
        self.request(Request::LeaseRevoke { id }, Waiter::Revision).await
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        self.lease(Ask::KeepAlive(id)).await
    }

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        self.lease(Ask::LeaseStatus(id)).await
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        Ok(self.0.keyspace.state().leases.ids())
    }

    fn is_durable(&self) -> bool {
        self.0.shared.health.lock().is_none()
    }

    fn health(&self) -> Result<(), Error> {
        if let Some(error) = self.0.shared.health.lock().clone() {
            return Err(error);
        }
        match self.0.shared.status.lock().leader {
            Some(_) => Ok(()),
            None => Err(Error::NoLeader),
        }
    }
}
