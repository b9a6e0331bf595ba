//! The measurements.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::etcd::rpc::kv_client::KvClient;
use proto::etcd::rpc::watch_client::WatchClient;
use proto::etcd::rpc::watch_request::RequestUnion;
use proto::etcd::rpc::{
    PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest, request_op,
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::servers::Servers;

/// Bytes of a value.
const VALUE: usize = 256;
/// Connections that clients share.
const CONNECTIONS: usize = 8;
/// Clients that read at once.
const READERS: usize = 64;
/// Keys of the large range, and the clients that read it.
const RANGE_KEYS: usize = 10_000;
const RANGE_READERS: usize = 4;
/// Watchers of one key, spread over the connections.
const WATCHERS: usize = 1000;
/// Puts in one transaction while a store is filled, and such transactions at once.
const FILL_OPS: usize = 100;
const FILLERS: usize = 16;

/// A row's value.
pub struct Figure {
    pub what: String,
    pub value: String,
}

impl Figure {
    pub fn new(what: impl Into<String>, value: impl Into<String>) -> Self {
        Self { what: what.into(), value: value.into() }
    }
}

/// Load on one cluster.
pub struct Load<'s> {
    servers: &'s Servers<'s>,
    channels: Vec<Channel>,
    time: Duration,
}

/// How long requests took.
#[derive(Default)]
struct Times(Vec<u32>);

impl Times {
    fn figure(mut self, what: String, time: Duration) -> Figure {
        self.0.sort_unstable();
        let at = |share: f64| {
            let index = (self.0.len() as f64 * share) as usize;
            self.0.get(index).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
        };
        let rate = self.0.len() as f64 / time.as_secs_f64();
        Figure::new(what, format!("{rate:.0}/s, p50 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.99)))
    }
}

fn value() -> Bytes {
    Bytes::from((0..VALUE).map(|_| fastrand::alphanumeric() as u8).collect::<Vec<u8>>())
}

impl<'s> Load<'s> {
    pub fn new(servers: &'s Servers<'s>, time: Duration) -> Self {
        let channels =
            servers.endpoints.iter().cycle().take(CONNECTIONS).map(|url| servers.channel(url)).collect();
        Self { servers, channels, time }
    }

    fn client(&self, number: usize) -> KvClient<Channel> {
        KvClient::new(self.channels[number % self.channels.len()].clone())
            .max_decoding_message_size(usize::MAX)
    }

    /// `clients` that each ask again as soon as they are answered.
    async fn run<F, Fut>(&self, clients: usize, request: F) -> Times
    where
        F: Fn(KvClient<Channel>, usize) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let until = Instant::now() + self.time;
        let mut tasks = JoinSet::new();
        for number in 0..clients {
            let (client, request) = (self.client(number), request.clone());
            tasks.spawn(async move {
                let mut times = Vec::new();
                let mut sequence = number;
                while Instant::now() < until {
                    let started = Instant::now();
                    request(client.clone(), sequence).await;
                    times.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
                    sequence += clients;
                }
                times
            });
        }
        let mut all = Times::default();
        while let Some(times) = tasks.join_next().await {
            all.0.extend(times.unwrap());
        }
        all
    }

    /// Puts of different keys: their rate, and what one writes to disk.
    pub async fn puts(&self, clients: usize) -> Vec<Figure> {
        let before = self.servers.written_bytes();
        let value = value();
        let times = self
            .run(clients, move |mut client, sequence| {
                let put = PutRequest {
                    key: Bytes::from(format!("puts/{clients}/{sequence:010}")),
                    value: value.clone(),
                    ..PutRequest::default()
                };
                async move { _ = client.put(put).await.unwrap() }
            })
            .await;
        let each = (self.servers.written_bytes() - before) / times.0.len().max(1) as u64;
        let written = Figure::new(format!("disk bytes per put, {clients} clients"), each.to_string());
        vec![times.figure(format!("put, {clients} clients"), self.time), written]
    }

    /// Reads of one key.
    pub async fn reads(&self, serializable: bool) -> Figure {
        let key = Bytes::from_static(b"read");
        self.client(0)
            .put(PutRequest { key: key.clone(), value: value(), ..PutRequest::default() })
            .await
            .unwrap();
        let times = self
            .run(READERS, move |mut client, _| {
                let range = RangeRequest { key: key.clone(), serializable, ..RangeRequest::default() };
                async move { _ = client.range(range).await.unwrap() }
            })
            .await;
        let kind = if serializable { "serializable" } else { "linearizable" };
        times.figure(format!("{kind} read, {READERS} clients"), self.time)
    }

    /// Reads of many keys at once.
    pub async fn large_range(&self) -> Figure {
        self.fill_with("range/", RANGE_KEYS).await;
        let times = self
            .run(RANGE_READERS, |mut client, _| async move {
                let (key, range_end) = (Bytes::from_static(b"range/"), Bytes::from_static(b"range0"));
                let range = RangeRequest { key, range_end, ..RangeRequest::default() };
                let answer = client.range(range).await.unwrap().into_inner();
                assert_eq!(answer.kvs.len(), RANGE_KEYS);
            })
            .await;
        times.figure(format!("range of {RANGE_KEYS} keys, {RANGE_READERS} clients"), self.time)
    }

    /// Many watchers of a key that changes as fast as the slowest of them hears of it.
    pub async fn watchers(&self) -> Figure {
        let heard = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..WATCHERS {
            let (channel, heard) = (self.channels[number % self.channels.len()].clone(), heard.clone());
            tasks.spawn(async move { watch(channel, &heard).await });
        }
        while heard.load(Ordering::Relaxed) < WATCHERS as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (mut times, mut client, value) = (Times::default(), self.client(0), value());
        let until = Instant::now() + self.time;
        while Instant::now() < until {
            let wanted = heard.load(Ordering::Relaxed) + WATCHERS as u64;
            let key = Bytes::from_static(b"watched");
            let started = Instant::now();
            client.put(PutRequest { key, value: value.clone(), ..PutRequest::default() }).await.unwrap();
            while heard.load(Ordering::Relaxed) < wanted {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            times.0.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
        times.figure(format!("change until {WATCHERS} watchers heard"), self.time)
    }

    /// Fills the store.
    pub async fn fill(&self, keys: usize) {
        self.fill_with("fill/", keys).await;
    }

    async fn fill_with(&self, prefix: &'static str, keys: usize) {
        let next = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for number in 0..FILLERS {
            let (mut client, next) = (self.client(number), next.clone());
            tasks.spawn(async move {
                loop {
                    let first = next.fetch_add(FILL_OPS as u64, Ordering::Relaxed) as usize;
                    if first >= keys {
                        return;
                    }
                    let put = |number: usize| {
                        let key = Bytes::from(format!("{prefix}{number:010}"));
                        let put = PutRequest { key, value: value(), ..PutRequest::default() };
                        RequestOp { request: Some(request_op::Request::RequestPut(put)) }
                    };
                    let success = (first..keys.min(first + FILL_OPS)).map(put).collect();
                    client.txn(TxnRequest { success, ..TxnRequest::default() }).await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }
}

/// Counts its creation and every event.
async fn watch(channel: Channel, heard: &AtomicU64) {
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let create = WatchCreateRequest { key: Bytes::from_static(b"watched"), ..WatchCreateRequest::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    requests.send(create).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers = WatchClient::new(channel).watch(stream).await.unwrap().into_inner();
    while let Ok(Some(answer)) = answers.message().await {
        let count = if answer.created { 1 } else { answer.events.len() as u64 };
        heard.fetch_add(count, Ordering::Relaxed);
    }
}
