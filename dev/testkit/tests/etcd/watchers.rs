//! Watchers at every member, and whether each saw every change once and in order.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::etcd::rpc::watch_client::WatchClient;
use proto::etcd::rpc::watch_request::RequestUnion;
use proto::etcd::rpc::{WatchCreateRequest, WatchRequest};
use tokio::task::JoinHandle;

use crate::load::PREFIX;

/// How long a watcher waits for the next change before it tries another member.
const PATIENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(50);

/// Revision, key and value of each change.
type Seen = Vec<(i64, Vec<u8>, Vec<u8>)>;

struct Watcher {
    endpoints: Mutex<Vec<String>>,
    seen: Mutex<Seen>,
}

/// See the module.
pub struct Watchers(Vec<(Arc<Watcher>, JoinHandle<()>)>);

impl Watchers {
    /// One per endpoint, each beginning at another.
    pub fn start(endpoints: &[String]) -> Self {
        let one = |n: usize| {
            let mut endpoints = endpoints.to_vec();
            endpoints.rotate_left(n);
            let watcher = Arc::new(Watcher { endpoints: Mutex::new(endpoints), seen: Mutex::default() });
            (watcher.clone(), tokio::spawn(watcher.run()))
        };
        Self((0..endpoints.len()).map(one).collect())
    }

    pub fn set_endpoints(&self, endpoints: &[String]) {
        for (n, (watcher, _)) in self.0.iter().enumerate() {
            let mut endpoints = endpoints.to_vec();
            endpoints.rotate_left(n);
            *watcher.endpoints.lock().unwrap() = endpoints;
        }
    }

    /// Waits until all have seen `revision`, and compares.
    pub async fn check(self, revision: i64, limit: Duration) {
        let end = Instant::now() + limit;
        let mut all = Vec::new();
        for (watcher, task) in self.0 {
            while watcher.next() <= revision {
                assert!(
                    Instant::now() < end,
                    "a watcher saw only up to {} of {revision}",
                    watcher.next() - 1
                );
                tokio::time::sleep(RETRY).await;
            }
            task.abort();
            all.push(std::mem::take(&mut *watcher.seen.lock().unwrap()));
        }
        for seen in &all {
            // Nothing else is written, so that revisions follow each other without a gap.
            let revisions: Vec<i64> = seen.iter().map(|(revision, ..)| *revision).collect();
            let expected: Vec<i64> = (2..=revision).collect();
            assert_eq!(revisions, expected, "a watcher missed or doubled something");
            assert_eq!(*seen, all[0], "watchers saw different things");
        }
    }
}

impl Watcher {
    fn next(&self) -> i64 {
        self.seen.lock().unwrap().last().map_or(2, |(revision, ..)| revision + 1)
    }

    async fn run(self: Arc<Self>) {
        for attempt in 0.. {
            let endpoint = {
                let endpoints = self.endpoints.lock().unwrap();
                endpoints[attempt % endpoints.len()].clone()
            };
            // A member that has only the state, and not what led there, says so and is left.
            _ = self.follow(&endpoint).await;
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow(&self, endpoint: &str) -> Option<()> {
        let mut client = WatchClient::new(etcd::connect(endpoint, &[], None).ok()?);
        let create = WatchCreateRequest {
            key: PREFIX.into(),
            range_end: "r0".into(),
            start_revision: self.next(),
            ..WatchCreateRequest::default()
        };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let (sender, requests) = tokio::sync::mpsc::channel(1);
        sender.send(request).await.ok()?;
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let asked = tokio::time::timeout(PATIENCE, client.watch(requests)).await;
        let mut changes = asked.ok()?.ok()?.into_inner();
        loop {
            let told = tokio::time::timeout(PATIENCE, changes.message()).await.ok()?.ok()??;
            if told.canceled {
                return None;
            }
            let mut seen = self.seen.lock().unwrap();
            for event in told.events {
                let kv = event.kv?;
                seen.push((kv.mod_revision, kv.key.to_vec(), kv.value.to_vec()));
            }
        }
    }
}
