//! Watchers at every member, and whether each saw every change once and in order.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::etcd::kv::Event;
use proto::etcd::kv::event::EventType;
use proto::etcd::rpc::watch_client::WatchClient;
use proto::etcd::rpc::watch_request::RequestUnion;
use proto::etcd::rpc::{WatchCreateRequest, WatchRequest};
use tokio::task::JoinHandle;

/// How long a watcher waits for the next change before it tries another member.
const PATIENCE: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(50);
/// How long a watcher stays with one member at most.
const STAY_MS: std::ops::Range<u64> = 500..10_000;
/// What a slow watcher waits before it reads on.
const SLOW: Duration = Duration::from_millis(100);

/// One change; without a value it is a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub revision: i64,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

pub type Seen = Vec<Change>;

struct Watcher {
    endpoints: Mutex<Vec<String>>,
    seen: Mutex<(Seen, Vec<Instant>)>,
    slow: bool,
}

/// See the module.
pub struct Watchers(Vec<(Arc<Watcher>, JoinHandle<()>)>);

/// What all watchers saw, and when the first of them did.
pub struct Watched {
    pub seen: Seen,
    pub at: Vec<Instant>,
}

impl Watchers {
    /// One per endpoint, each beginning at another, and a slow one.
    pub fn start(endpoints: &[String]) -> Self {
        let one = |n: usize| {
            let slow = n == endpoints.len();
            let watcher = Watcher { endpoints: Mutex::default(), seen: Mutex::default(), slow };
            let watcher = Arc::new(watcher);
            watcher.set_endpoints(endpoints, n);
            (watcher.clone(), tokio::spawn(watcher.run()))
        };
        Self((0..=endpoints.len()).map(one).collect())
    }

    pub fn set_endpoints(&self, endpoints: &[String]) {
        self.0.iter().enumerate().for_each(|(n, (watcher, _))| watcher.set_endpoints(endpoints, n));
    }

    /// Waits until all have seen `revision`, and compares.
    pub async fn check(self, revision: i64, limit: Duration) -> Watched {
        let end = Instant::now() + limit;
        let mut all = Vec::new();
        for (watcher, task) in self.0 {
            while watcher.next() <= revision {
                let seen = watcher.next() - 1;
                assert!(Instant::now() < end, "a watcher saw only up to {seen} of {revision}");
                tokio::time::sleep(RETRY).await;
            }
            task.abort();
            all.push(std::mem::take(&mut *watcher.seen.lock().unwrap()));
        }
        compare(all, revision)
    }
}

/// All changes up to `revision`, which every watcher must have seen once and in order.
fn compare(mut all: Vec<(Seen, Vec<Instant>)>, revision: i64) -> Watched {
    let (seen, mut at) = all.swap_remove(0);
    // All keys are watched, so that revisions follow each other without a gap.
    let mut revisions: Vec<i64> = seen.iter().map(|change| change.revision).collect();
    revisions.dedup();
    assert_eq!(revisions, (2..=revision).collect::<Vec<i64>>(), "a watcher missed or doubled something");
    for (other, times) in all {
        assert_eq!(other, seen, "watchers saw different things");
        at.iter_mut().zip(times).for_each(|(at, time)| *at = time.min(*at));
    }
    Watched { seen, at }
}

impl Watcher {
    fn set_endpoints(&self, endpoints: &[String], n: usize) {
        let mut endpoints = endpoints.to_vec();
        let count = endpoints.len();
        endpoints.rotate_left(n % count);
        *self.endpoints.lock().unwrap() = endpoints;
    }

    fn next(&self) -> i64 {
        self.seen.lock().unwrap().0.last().map_or(2, |change| change.revision + 1)
    }

    async fn run(self: Arc<Self>) {
        for attempt in 0.. {
            let endpoint = {
                let endpoints = self.endpoints.lock().unwrap();
                endpoints[attempt % endpoints.len()].clone()
            };
            // A member that has only the state, and not what led there, says so and is left.
            let stay = Duration::from_millis(fastrand::u64(STAY_MS));
            _ = tokio::time::timeout(stay, self.follow(&endpoint)).await;
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow(&self, endpoint: &str) -> Option<()> {
        let mut client = WatchClient::new(etcd::connect(endpoint, &[], None).ok()?);
        let create = WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
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
            self.see(told.events)?;
            if self.slow {
                tokio::time::sleep(SLOW).await;
            }
        }
    }

    fn see(&self, events: Vec<Event>) -> Option<()> {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap();
        for event in events {
            let deleted = event.r#type() == EventType::Delete;
            let kv = event.kv?;
            let value = (!deleted).then(|| kv.value.to_vec());
            seen.0.push(Change { revision: kv.mod_revision, key: kv.key.to_vec(), value });
            seen.1.push(now);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(changes: &[(i64, &str)]) -> (Seen, Vec<Instant>) {
        let one = |(revision, key): &(i64, &str)| Change {
            revision: *revision,
            key: key.as_bytes().to_vec(),
            value: Some(Vec::new()),
        };
        (changes.iter().map(one).collect(), vec![Instant::now(); changes.len()])
    }

    #[test]
    fn what_watchers_must_not_see_is_found() {
        let right = [(2, "a"), (3, "b"), (3, "c"), (4, "a")];
        assert_eq!(compare(vec![seen(&right), seen(&right)], 4).seen.len(), 4);
        let wrong: [&[(i64, &str)]; 5] = [
            &[(2, "a"), (4, "a")],
            &[(2, "a"), (3, "b"), (4, "a")],
            &[(2, "a"), (3, "b"), (3, "c"), (4, "a"), (4, "a")],
            &[(2, "a"), (3, "c"), (3, "b"), (4, "a")],
            &[(2, "a"), (3, "b"), (3, "c"), (2, "a"), (4, "a")],
        ];
        for other in wrong {
            let all = vec![seen(&right), seen(other)];
            assert!(std::panic::catch_unwind(|| compare(all, 4)).is_err(), "{other:?}");
        }
    }
}
