//! The services of the v3 API over a store and its cluster.

mod auth;
mod check;
mod cluster;
mod encode;
mod kv;
mod lease;
mod maintenance;
mod range_answer;
mod watch;
mod watch_answer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base::TaskScope;
use proto::etcd::rpc::ResponseHeader;
use store::{Alarm, Cluster, Error, MemberId, Revision, Store};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

pub(crate) use self::kv::PutCall;
pub(crate) use self::lease::LeaseService;
pub(crate) use self::maintenance::MaintenanceService;
pub(crate) use self::range_answer::RangeCall;
pub(crate) use self::watch::WatchCall;
use crate::auth::{Auth, Caller, TokenKind};
use crate::metrics::Metrics;
use crate::status;

/// The version of etcd whose API this is; clients look at it for what they may use.
pub const ETCD_VERSION: &str = "3.6.5";
/// Writes that may wait at once; more are refused as etcd refuses them (`maxGapBetweenApplyAndCommitIndex`).
const MAX_PENDING_WRITES: usize = 5000;
/// The least time to live of a lease, in seconds: etcd's is one and a half election times, rounded up.
const MIN_LEASE_TTL_S: i64 = 2;
/// Metadata with which a client asks for an error when there is no leader.
const REQUIRE_LEADER: &str = "hasleader";

/// What of the API can be set.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// How often a watch that asked for it hears how far it is (`--watch-progress-notify-interval`).
    pub progress_interval: Duration,
    /// `--quota-backend-bytes`, for the status.
    pub quota_bytes: u64,
    /// Least time to live of a lease in seconds.
    pub min_lease_ttl_s: i64,
    /// How long a stream that asked for a leader goes on without one (etcd: three election timeouts).
    pub leaderless_grace: Duration,
    /// How tokens of users are made.
    pub token: TokenKind,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_txn_ops: store::MAX_TXN_OPS,
            max_request_bytes: store::MAX_REQUEST_BYTES,
            progress_interval: Duration::from_secs(600),
            quota_bytes: 2 << 30,
            min_lease_ttl_s: MIN_LEASE_TTL_S,
            leaderless_grace: Duration::from_secs(3),
            token: TokenKind::default(),
        }
    }
}

/// All services of one member. The tonic servers are made around it by [`crate::serve`].
pub struct Server {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cluster: Arc<dyn Cluster>,
    pub(crate) options: Options,
    pub(crate) auth: Arc<Auth>,
    pub(crate) metrics: Metrics,
    pub(crate) scope: TaskScope,
    pending: AtomicUsize,
    cluster_id: u64,
    member_id: MemberId,
}

impl Server {
    /// Serves `store` as the member that `cluster` tells of; tasks end with `scope`.
    pub fn new(
        store: Arc<dyn Store>,
        cluster: Arc<dyn Cluster>,
        options: Options,
        scope: &TaskScope,
    ) -> Arc<Self> {
        let status = cluster.status();
        Arc::new(Self {
            auth: Arc::new(Auth::new(cluster.clone(), options.token.clone())),
            store,
            cluster,
            options,
            metrics: Metrics::default(),
            scope: scope.child("etcd"),
            pending: AtomicUsize::new(0),
            cluster_id: status.cluster_id,
            member_id: status.member_id,
        })
    }

    fn header(&self, revision: Revision) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id.0,
            revision: revision.as_i64(),
            raft_term: self.cluster.term(),
        }
    }

    fn header_now(&self) -> ResponseHeader {
        self.header(self.store.current_revision())
    }

    /// Who asks; refuses a client that wants a leader where there is none, and all at a learner.
    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        if self.cluster.is_learner() {
            return Err(status::LEARNER.into());
        }
        self.reader(request)
    }

    /// The same for what a learner answers as well.
    fn reader<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        self.require_leader(request.metadata())?;
        self.auth.caller(request.metadata(), request.extensions())
    }

    fn require_leader(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let asked = metadata.get(REQUIRE_LEADER).is_some_and(|value| value == "true");
        if asked && self.cluster.status().leader.is_none() { Err(status::NO_LEADER.into()) } else { Ok(()) }
    }

    /// Ends when a client that asked for a leader has had none for a while; never for others.
    fn leader_lost(&self, metadata: &MetadataMap) -> impl Future<Output = ()> + Send + 'static {
        let asked = metadata.get(REQUIRE_LEADER).is_some_and(|value| value == "true");
        let known = self.cluster.has_leader().filter(|_| asked);
        let grace = self.options.leaderless_grace;
        async move {
            let Some(mut known) = known else { return std::future::pending().await };
            // An error says that the store is gone, and with it the leader.
            while known.wait_for(|known| !known).await.is_ok() {
                let back = tokio::time::timeout(grace, known.wait_for(|known| *known)).await;
                if !matches!(back, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }

    /// A place among the writes that wait; given back when dropped. Refused when the member is corrupt.
    fn place(&self) -> Result<Place<'_>, Status> {
        let place = Place(&self.pending);
        if self.pending.fetch_add(1, Ordering::Relaxed) >= MAX_PENDING_WRITES {
            return Err(status::TOO_MANY_REQUESTS.into());
        }
        self.not_corrupt()?;
        Ok(place)
    }

    fn alarm(&self, wanted: Alarm) -> bool {
        self.cluster.alarms().iter().any(|(_, alarm)| *alarm == wanted)
    }

    fn not_corrupt(&self) -> Result<(), Status> {
        if self.alarm(Alarm::Corrupt) { Err(status::CORRUPT.into()) } else { Ok(()) }
    }

    /// Refuses what takes space while the alarm stands.
    fn has_space(&self) -> Result<(), Status> {
        if self.alarm(Alarm::NoSpace) { Err(status::NO_SPACE.into()) } else { Ok(()) }
    }

    /// The store's error on the wire. The first refusal for lack of space raises the alarm.
    async fn refused(&self, error: Error) -> Status {
        if matches!(error, Error::NoSpace(_)) {
            let raised = self.cluster.set_alarm(self.member_id, Alarm::NoSpace, true).await;
            if let Err(error) = raised {
                tracing::error!(%error, "could not raise the alarm for lack of space");
            }
        }
        status::of_store(&error)
    }

    fn fits(&self, bytes: usize) -> Result<(), Status> {
        if bytes > self.options.max_request_bytes { Err(status::REQUEST_TOO_LARGE.into()) } else { Ok(()) }
    }
}

struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
