//! Clients that hold leases, and whether each lease lived as long as was promised, ended once, and took its key along.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::etcd::rpc::kv_client::KvClient;
use proto::etcd::rpc::lease_client::LeaseClient;
use proto::etcd::rpc::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest,
};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::load::Load;
use crate::watchers::Watched;

const CLIENTS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(4);
const RETRY: Duration = Duration::from_millis(100);
/// Seconds that a lease lives; the least is what the members' election time allows.
const TTL_S: std::ops::Range<i64> = 1..4;
/// What the names of all keys with leases begin with.
const PREFIX: &str = "l/";

/// A lease, as far as its holder knows.
struct Held {
    /// Until then it was promised to live.
    until: Instant,
    /// From then on it may have been ended on purpose.
    ended: Option<Instant>,
}

/// See the module.
pub struct Leases {
    load: Arc<Load>,
    held: Mutex<BTreeMap<Vec<u8>, Held>>,
}

async fn within<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| Err(Status::cancelled("no answer")))
}

impl Leases {
    pub fn new(load: Arc<Load>) -> Arc<Self> {
        Arc::new(Self { load, held: Mutex::default() })
    }

    pub fn start(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        (0..CLIENTS).map(|_| tokio::spawn(self.clone().client())).collect()
    }

    fn channel(&self) -> Channel {
        etcd::connect(&self.load.endpoint(), &[], None).unwrap()
    }

    async fn client(self: Arc<Self>) {
        while !self.load.is_stopped() {
            // Whatever is not answered ends the life of this lease.
            _ = self.hold().await;
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The life of one lease.
    async fn hold(&self) -> Result<(), Status> {
        let (id, ttl) = (fastrand::i64(1..), fastrand::i64(TTL_S));
        let asked = Instant::now();
        let mut client = LeaseClient::new(self.channel());
        let granted = within(client.lease_grant(LeaseGrantRequest { id, ttl })).await?.into_inner();
        let key = format!("{PREFIX}{id}").into_bytes();
        let until = asked + Duration::from_secs(granted.ttl as u64);
        self.held.lock().unwrap().insert(key.clone(), Held { until, ended: None });
        let put = PutRequest { key: key.clone().into(), lease: id, ..PutRequest::default() };
        within(KvClient::new(self.channel()).put(put)).await?;
        for _ in 0..fastrand::u8(0..8) {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(50..ttl as u64 * 700))).await;
            if !self.keep_alive(id, &key).await? {
                return self.must_be_gone(&key).await;
            }
        }
        if fastrand::bool() {
            return Ok(());
        }
        self.held.lock().unwrap().get_mut(&key).unwrap().ended = Some(Instant::now());
        let revoke = LeaseRevokeRequest { id };
        match within(LeaseClient::new(self.channel()).lease_revoke(revoke)).await {
            Err(status) if status.code() != Code::NotFound => return Err(status),
            _ => self.must_be_gone(&key).await?,
        }
        let again = within(LeaseClient::new(self.channel()).lease_revoke(revoke)).await;
        assert!(again.is_err(), "a lease was revoked twice");
        Ok(())
    }

    /// Whether the lease still lives.
    async fn keep_alive(&self, id: i64, key: &[u8]) -> Result<bool, Status> {
        let mut client = LeaseClient::new(self.channel());
        let asked = Instant::now();
        let requests = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
        let mut answers = within(client.lease_keep_alive(requests)).await?.into_inner();
        let Some(answer) = within(answers.message()).await? else { return Ok(true) };
        if answer.ttl > 0 {
            let mut held = self.held.lock().unwrap();
            held.get_mut(key).unwrap().until = asked + Duration::from_secs(answer.ttl as u64);
        }
        Ok(answer.ttl > 0)
    }

    /// A lease that is gone has taken its key along.
    async fn must_be_gone(&self, key: &[u8]) -> Result<(), Status> {
        let range = RangeRequest { key: key.to_vec().into(), ..RangeRequest::default() };
        let read = within(KvClient::new(self.channel()).range(range)).await?.into_inner();
        assert!(read.kvs.is_empty(), "a key outlived its lease");
        Ok(())
    }

    /// Waits until all leases have ended.
    pub async fn wait_gone(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut client = LeaseClient::new(self.channel());
        loop {
            let left = within(client.lease_leases(LeaseLeasesRequest {})).await.map(|left| left.into_inner());
            if left.as_ref().is_ok_and(|left| left.leases.is_empty()) {
                return;
            }
            assert!(Instant::now() < end, "leases do not end: {left:?}");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Every key came and went once, and not before its time; gives how many leases there were.
    pub fn check(&self, watched: &Watched) -> usize {
        let held = self.held.lock().unwrap();
        check(&held, watched);
        held.len()
    }
}

fn check(held: &BTreeMap<Vec<u8>, Held>, watched: &Watched) {
    let mut there: BTreeMap<&[u8], bool> = BTreeMap::new();
    for (change, at) in watched.seen.iter().zip(&watched.at) {
        if !change.key.starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let before = there.insert(&change.key, change.value.is_some());
        let name = String::from_utf8_lossy(&change.key);
        if change.value.is_some() {
            assert_eq!(before, None, "{name} was written twice");
            continue;
        }
        assert_eq!(before, Some(true), "{name} was deleted twice");
        let held = &held[&change.key];
        let too_early = *at < held.until && held.ended.is_none_or(|ended| *at < ended);
        assert!(!too_early, "{name} went {:?} before its time", held.until - *at);
    }
    assert!(there.values().all(|there| !there), "a key outlived its lease: {there:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchers::Change;

    #[test]
    fn leases_that_end_too_early_twice_or_not_at_all_are_found() {
        let begin = Instant::now();
        let after = |s| begin + Duration::from_secs(s);
        let check = |ended: Option<u64>, changes: &[(bool, u64)]| {
            let held = Held { until: after(5), ended: ended.map(after) };
            let held = BTreeMap::from([(b"l/1".to_vec(), held)]);
            let change = |put: bool| Change { revision: 2, key: b"l/1".to_vec(), value: put.then(Vec::new) };
            let watched = Watched {
                seen: changes.iter().map(|(put, _)| change(*put)).collect(),
                at: changes.iter().map(|(_, s)| after(*s)).collect(),
            };
            std::panic::catch_unwind(|| super::check(&held, &watched)).is_ok()
        };
        assert!(check(None, &[(true, 1), (false, 5)]) && check(Some(2), &[(true, 1), (false, 3)]));
        assert!(!check(None, &[(true, 1), (false, 4)]), "before its time");
        assert!(!check(Some(4), &[(true, 1), (false, 3)]), "before it was revoked");
        assert!(!check(None, &[(true, 1), (false, 6), (false, 7)]), "twice");
        assert!(!check(None, &[(true, 1), (false, 6), (true, 7), (false, 8)]), "again");
        assert!(!check(None, &[(true, 1)]), "not at all");
    }
}
