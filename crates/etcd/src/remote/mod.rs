//! A store over anyone's etcd: one keyspace in memory fed by a watch, writes as etcd's transactions.
//!
//! Reads and watches are answered from memory and so are consistent by revision. A write returns when memory shows
//! it; a barrier asks etcd for its revision and waits until memory has it. The watch is of the whole keyspace, so
//! that every revision arrives, and none needs to be guessed from a progress notification.

mod feed;
mod request;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use base::{TaskScope, system_clock};
use parking_lot::RwLock;
use proto::etcd::rpc::kv_client::KvClient;
use proto::etcd::rpc::lease_client::LeaseClient;
use proto::etcd::rpc::{
    CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, RangeRequest,
};
use store::{
    Entry, EntryReader, Error, HistoryLimits, Key, KeyRange, LeaseId, LeaseStatus, Mirror, RangeOptions,
    RangeResult, Revision, Store, Txn, TxnResult, WatchOptions, Watcher,
};
use tokio::sync::{Notify, watch};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::connect::{ConnectError, connect};
use crate::convert;

/// How long one request may take at one endpoint.
const REQUEST: Duration = Duration::from_secs(10);
/// How long memory may take to show what etcd has answered; after that the watch is begun anew elsewhere.
const CATCH_UP: Duration = Duration::from_secs(5);
/// The largest answer that is taken (upstream's clients take `math.MaxInt32`).
const MAX_ANSWER: usize = i32::MAX as usize;

/// How an etcd is reached (`--etcd-servers` and its companions).
#[derive(Debug, Clone, Default)]
pub struct RemoteConfig {
    /// `http://` or `https://` URLs of members.
    pub endpoints: Vec<String>,
    /// Authorities of their certificates (`--etcd-cafile`).
    pub authorities: Vec<PathBuf>,
    /// What to present to them (`--etcd-certfile`, `--etcd-keyfile`).
    pub identity: Option<pki::KeyPairFiles>,
    /// Before all keys; etcd's users never see it, nor does the store's.
    pub prefix: String,
    /// How much of the past is kept in memory.
    pub history: HistoryLimits,
}

/// Why an etcd cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// No endpoint is given.
    #[error("no etcd server is given")]
    NoEndpoints,
    /// An endpoint, certificate or key cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No member answered in time.
    #[error("none of the etcd servers {servers} gave its state within {}s: {last}", waited.as_secs())]
    Unreachable {
        /// Which were asked.
        servers: String,
        /// For how long.
        waited: Duration,
        /// What the last one said.
        last: String,
    },
}

/// See the module. Clones are the same store; its tasks end with the scope that it was given.
#[derive(Clone)]
pub struct RemoteStore(Arc<Inner>);

/// An endpoint with its channel.
struct Member {
    url: String,
    channel: Channel,
}

struct Inner {
    members: Vec<Member>,
    /// The member that answered last.
    current: AtomicUsize,
    prefix: Vec<u8>,
    mirror: Mirror,
    /// Set when memory has a state.
    ready: watch::Sender<bool>,
    /// Makes the feed begin anew with another member.
    lagging: Notify,
    /// Why memory does not follow at the moment.
    trouble: RwLock<Option<String>>,
    /// Sees what arrives before memory has it.
    reader: OnceLock<Arc<dyn EntryReader>>,
}

impl RemoteStore {
    /// Reads the whole state into memory and follows it until `scope` ends. Waits at most `wait` for it.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn open(config: &RemoteConfig, scope: &TaskScope, wait: Duration) -> Result<Self, RemoteError> {
        if config.endpoints.is_empty() {
            return Err(RemoteError::NoEndpoints);
        }
        let member = |url: &String| -> Result<Member, ConnectError> {
            let url = url.trim().trim_end_matches('/').to_owned();
            let channel = connect(&url, &config.authorities, config.identity.clone())?;
            Ok(Member { url, channel })
        };
        let inner = Arc::new(Inner {
            members: config.endpoints.iter().map(member).collect::<Result<_, _>>()?,
            current: AtomicUsize::new(0),
            prefix: config.prefix.clone().into_bytes(),
            mirror: Mirror::new(config.history, system_clock()),
            ready: watch::Sender::new(false),
            lagging: Notify::new(),
            trouble: RwLock::new(None),
            reader: OnceLock::new(),
        });
        scope.spawn(feed::run(inner.clone()));
        let mut ready = inner.ready.subscribe();
        let answered = tokio::time::timeout(wait, ready.wait_for(|ready| *ready)).await;
        if !matches!(answered, Ok(Ok(_))) {
            let last = inner.trouble.read().clone().unwrap_or_else(|| "no answer".to_owned());
            let servers = config.endpoints.join(",");
            return Err(RemoteError::Unreachable { servers, waited: wait, last });
        }
        Ok(Self(inner))
    }
}

/// Whether a request surely was not done, so that it can be asked of another member.
fn was_not_done(status: &Status) -> bool {
    if status.code() == Code::Unavailable && status.message() == crate::status::NO_LEADER.1 {
        return true;
    }
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.downcast_ref::<tonic::ConnectError>().is_some() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// etcd's answer as the store's error.
fn error_of(status: &Status, current: Revision) -> Error {
    use crate::status as known;
    let text = status.message();
    if text == known::COMPACTED.1 {
        Error::Compacted { compact_revision: current }
    } else if text == known::FUTURE_REVISION.1 {
        Error::FutureRevision { current }
    } else if text == known::NO_SPACE.1 {
        Error::NoSpace(text.to_owned())
    } else if text == known::REQUEST_TOO_LARGE.1 || text.contains("message larger than max") {
        Error::TooLarge { what: "request", size: 0, limit: store::MAX_REQUEST_BYTES }
    } else if text == known::TOO_MANY_REQUESTS.1 {
        Error::Overloaded
    } else if text == known::NO_LEADER.1 {
        Error::NoLeader
    } else if text == known::KEY_NOT_FOUND.1 {
        Error::Invalid("key not found")
    } else if text == known::DUPLICATE_KEY.1 {
        Error::Invalid("duplicate key given in txn request")
    } else {
        tracing::warn!(code = ?status.code(), text, "etcd did not answer as asked");
        Error::Timeout
    }
}

impl Inner {
    /// Asks members, the one that answered last first. Reads go on to the next member after any lack of an answer,
    /// writes only if they surely were not done.
    async fn ask<T, F, Fut>(&self, is_read: bool, request: F) -> Result<T, Status>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<T, Status>>,
    {
        let first = self.current.load(Ordering::Relaxed);
        let mut last = Status::unavailable("no etcd server is given");
        for offset in 0..self.members.len() {
            let index = (first + offset) % self.members.len();
            let asked = tokio::time::timeout(REQUEST, request(self.members[index].channel.clone())).await;
            let status = match asked {
                Ok(Ok(answer)) => {
                    self.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("etcd did not answer in time"),
            };
            let silent = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Unknown);
            if silent {
                // The next request need not wait for it, whatever becomes of this one.
                self.current.store((index + 1) % self.members.len(), Ordering::Relaxed);
            }
            if !(is_read && silent || was_not_done(&status)) {
                return Err(status);
            }
            tracing::debug!(member = self.members[index].url, %status, "ask another member of etcd");
            last = status;
        }
        Err(last)
    }

    fn error(&self, status: &Status) -> Error {
        error_of(status, self.mirror.current_revision())
    }

    /// Waits until memory has `revision`.
    async fn reach(&self, revision: Revision) -> Result<(), Error> {
        if self.mirror.current_revision() >= revision {
            return Ok(());
        }
        match tokio::time::timeout(CATCH_UP, self.mirror.wait_for(revision)).await {
            Ok(reached) => reached,
            Err(_) => {
                // The member that is watched may be cut off from the others.
                self.lagging.notify_one();
                Err(Error::Timeout)
            }
        }
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }
}

#[async_trait]
impl Store for RemoteStore {
    fn range(&self, range: &KeyRange, options: RangeOptions) -> Result<RangeResult, Error> {
        self.0.mirror.range(range, options)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Arc<Entry>>, Error> {
        Ok(self.0.mirror.get(key))
    }

    fn current_revision(&self) -> Revision {
        self.0.mirror.current_revision()
    }

    fn compact_revision(&self) -> Revision {
        self.0.mirror.compact_revision()
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResult, Error> {
        let inner = &self.0;
        let wire = request::of_txn(&txn, &inner.prefix)?;
        let answer = inner
            .ask(false, |channel| {
                let wire = wire.clone();
                async move { KvClient::new(channel).max_decoding_message_size(MAX_ANSWER).txn(wire).await }
            })
            .await
            .map_err(|status| inner.error(&status))?
            .into_inner();
        let mut result = request::result(&txn, answer, &inner.prefix);
        // What was written or read must be there for whoever reads next.
        inner.reach(request::seen(&result)).await?;
        request::share(&txn, &mut result, &inner.mirror);
        Ok(result)
    }

    fn watch(&self, range: KeyRange, options: WatchOptions) -> Result<Watcher, Error> {
        self.0.mirror.watch(range, options)
    }

    fn set_reader(&self, reader: Arc<dyn EntryReader>) {
        let _ = self.0.reader.set(reader);
    }

    async fn wait_for(&self, revision: Revision) -> Result<(), Error> {
        self.0.mirror.wait_for(revision).await
    }

    async fn read_barrier(&self) -> Result<Revision, Error> {
        let inner = &self.0;
        let wanted =
            RangeRequest { key: inner.key(b"\0").into(), count_only: true, ..RangeRequest::default() };
        let answer = inner
            .ask(true, |channel| {
                let wanted = wanted.clone();
                async move { KvClient::new(channel).range(wanted).await }
            })
            .await
            .map_err(|status| inner.error(&status))?;
        let revision = convert::revision(answer.into_inner().header.unwrap_or_default().revision);
        inner.reach(revision).await?;
        Ok(revision)
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let inner = &self.0;
        let wanted = CompactionRequest { revision: revision.as_i64(), physical: false };
        inner
            .ask(true, |channel| async move { KvClient::new(channel).compact(wanted).await })
            .await
            .map_err(|status| inner.error(&status))?;
        inner.mirror.compact(revision);
        Ok(())
    }

    async fn lease_grant(&self, id: LeaseId, ttl_s: i64) -> Result<LeaseStatus, Error> {
        let wanted = LeaseGrantRequest { id: id.0, ttl: ttl_s };
        let answer = self
            .0
            .ask(false, |channel| async move { LeaseClient::new(channel).lease_grant(wanted).await })
            .await
            .map_err(|status| self.lease_error(&status, id))?
            .into_inner();
        Ok(LeaseStatus {
            id: LeaseId(answer.id),
            granted_ttl_s: answer.ttl,
            ttl_s: answer.ttl,
            keys: Vec::new(),
        })
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, Error> {
        let wanted = LeaseRevokeRequest { id: id.0 };
        let answer = self
            .0
            .ask(false, |channel| async move { LeaseClient::new(channel).lease_revoke(wanted).await })
            .await
            .map_err(|status| self.lease_error(&status, id))?;
        let revision = convert::revision(answer.into_inner().header.unwrap_or_default().revision);
        self.0.reach(revision).await?;
        Ok(revision)
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        let one = |channel| async move {
            let requests = tokio_stream::once(LeaseKeepAliveRequest { id: id.0 });
            let mut answers = LeaseClient::new(channel).lease_keep_alive(requests).await?.into_inner();
            answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))
        };
        // Keeping alive twice is as good as once.
        let answer = self.0.ask(true, one).await.map_err(|status| self.lease_error(&status, id))?;
        if answer.ttl <= 0 {
            return Err(Error::LeaseNotFound(id));
        }
        Ok(LeaseStatus { id, granted_ttl_s: answer.ttl, ttl_s: answer.ttl, keys: Vec::new() })
    }

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus, Error> {
        let wanted = LeaseTimeToLiveRequest { id: id.0, keys: true };
        let answer = self
            .0
            .ask(true, |channel| async move { LeaseClient::new(channel).lease_time_to_live(wanted).await })
            .await
            .map_err(|status| self.lease_error(&status, id))?
            .into_inner();
        if answer.ttl < 0 {
            return Err(Error::LeaseNotFound(id));
        }
        let keys = answer.keys.iter().filter_map(|key| key.strip_prefix(&self.0.prefix[..])).map(Key::from);
        let (granted_ttl_s, ttl_s) = (answer.granted_ttl, answer.ttl);
        Ok(LeaseStatus { id, granted_ttl_s, ttl_s, keys: keys.collect() })
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        let answer = self
            .0
            .ask(true, |channel| async move {
                LeaseClient::new(channel).lease_leases(LeaseLeasesRequest {}).await
            })
            .await
            .map_err(|status| self.0.error(&status))?;
        let mut leases: Vec<LeaseId> =
            answer.into_inner().leases.into_iter().map(|lease| LeaseId(lease.id)).collect();
        leases.sort_unstable();
        Ok(leases)
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn health(&self) -> Result<(), Error> {
        match &*self.0.trouble.read() {
            None => Ok(()),
            Some(_) => Err(Error::NoLeader),
        }
    }
}

impl RemoteStore {
    fn lease_error(&self, status: &Status, id: LeaseId) -> Error {
        match status.message() {
            text if text == crate::status::LEASE_NOT_FOUND.1 => Error::LeaseNotFound(id),
            text if text == crate::status::LEASE_EXISTS.1 => Error::LeaseExists(id),
            _ => self.0.error(status),
        }
    }
}
