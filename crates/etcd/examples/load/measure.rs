//! The measurements.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use proto::etcd::rpc::kv_client::KvClient;
use proto::etcd::rpc::watch_request::RequestUnion;
use proto::etcd::rpc::{
    PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest, request_op,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::lean::Lean;
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
const RANGE: &str = "/etcdserverpb.KV/Range";
/// The key that is watched.
const WATCHED: &[u8] = b"watched";
/// Watchers of one key, spread over the connections.
const WATCHERS: usize = 1000;
/// Puts in one transaction while a store is filled, and such transactions at once.
const FILL_OPS: usize = 100;
const FILLERS: usize = 16;

/// A row's value.
pub struct Figure {
    pub what: String,
    pub value: String,
    /// What the servers are compared by.
    pub number: f64,
}

impl Figure {
    pub fn new(what: impl Into<String>, value: impl Into<String>, number: f64) -> Self {
        Self { what: what.into(), value: value.into(), number }
    }
}

/// Load on one cluster.
pub struct Load<'s> {
    servers: &'s Servers<'s>,
    channels: Vec<Channel>,
    time: Duration,
}

/// How long requests took, in microseconds, and how many seconds of processor time the servers took for all of them.
#[derive(Default)]
struct Times {
    each: Vec<u32>,
    cpu: f64,
}

impl Times {
    fn figure(mut self, what: String, time: Duration) -> Figure {
        self.each.sort_unstable();
        let count = self.each.len() as f64;
        let at = |share: f64| {
            let index = (count * share) as usize;
            self.each.get(index).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
        };
        let (rate, cpu) = (count / time.as_secs_f64(), self.cpu / count * 1e6);
        let value = format!("{rate:.0}/s, p50 {:.2} ms, p99 {:.2} ms, {cpu:.0} µs CPU", at(0.5), at(0.99));
        Figure::new(what, value, rate)
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
    }

    /// The servers' addresses, one for each of `count` connections.
    fn addresses(&self, count: usize) -> Vec<String> {
        let hosts = self.servers.endpoints.iter().map(|url| url.trim_start_matches("http://").to_owned());
        hosts.cycle().take(count).collect()
    }

    /// `clients` that each ask again as soon as they are answered; `request` is given the number of the client and how
    /// often it asked before.
    async fn run<M, F>(&self, clients: usize, path: &'static str, request: F) -> Times
    where
        M: Message,
        F: Fn(usize, usize) -> M + Clone + Send + 'static,
    {
        let connections = clients.min(CONNECTIONS);
        let mut ready = Vec::new();
        for address in self.addresses(connections) {
            ready.push(Lean::connect(&address, path).await);
        }
        let before = self.servers.cpu_seconds();
        let until = Instant::now() + self.time;
        let mut tasks = JoinSet::new();
        for (first, mut connection) in ready.into_iter().enumerate() {
            let request = request.clone();
            let of_connection = (clients - first).div_ceil(connections);
            let message = move |client, count| request(first + client * connections, count).encode_to_vec();
            tasks.spawn(async move { connection.ask(of_connection, until, message).await });
        }
        let each = tasks.join_all().await.concat();
        Times { each, cpu: self.servers.cpu_seconds() - before }
    }

    /// Puts of different keys: their rate, and what one writes to disk.
    pub async fn puts(&self, clients: usize) -> Vec<Figure> {
        let before = self.servers.written_bytes();
        let value = value();
        let put = move |client, count| PutRequest {
            key: Bytes::from(format!("puts/{clients}/{client:03}/{count:010}")),
            value: value.clone(),
            ..PutRequest::default()
        };
        let times = self.run(clients, "/etcdserverpb.KV/Put", put).await;
        let each = (self.servers.written_bytes() - before) / times.each.len().max(1) as u64;
        let what = format!("disk bytes per put, {clients} clients");
        let written = Figure::new(what, each.to_string(), each as f64);
        vec![times.figure(format!("put, {clients} clients"), self.time), written]
    }

    /// Reads of one key.
    pub async fn reads(&self, serializable: bool) -> Figure {
        let key = Bytes::from_static(b"read");
        self.client(0)
            .put(PutRequest { key: key.clone(), value: value(), ..PutRequest::default() })
            .await
            .unwrap();
        let range = move |_, _| RangeRequest { key: key.clone(), serializable, ..RangeRequest::default() };
        let times = self.run(READERS, RANGE, range).await;
        let kind = if serializable { "serializable" } else { "linearizable" };
        times.figure(format!("{kind} read, {READERS} clients"), self.time)
    }

    /// Reads of many keys at once.
    pub async fn large_range(&self) -> Figure {
        self.fill_with("range/", RANGE_KEYS).await;
        let range = |_, _| {
            let (key, range_end) = (Bytes::from_static(b"range/"), Bytes::from_static(b"range0"));
            RangeRequest { key, range_end, ..RangeRequest::default() }
        };
        let answer = self.client(0).max_decoding_message_size(usize::MAX).range(range(0, 0)).await.unwrap();
        assert_eq!(answer.into_inner().kvs.len(), RANGE_KEYS);
        let times = self.run(RANGE_READERS, RANGE, range).await;
        times.figure(format!("range of {RANGE_KEYS} keys, {RANGE_READERS} clients"), self.time)
    }

    /// Many watchers of a key that changes as soon as all of them have heard of it.
    pub async fn watchers(&self) -> Figure {
        let heard = Arc::new(watch::Sender::new(0_u64));
        let mut tasks = JoinSet::new();
        for (number, address) in self.addresses(CONNECTIONS).into_iter().enumerate() {
            let (count, heard) = ((WATCHERS - number).div_ceil(CONNECTIONS), heard.clone());
            tasks.spawn(async move { watch_key(&address, count, &heard).await });
        }
        let mut all = heard.subscribe();
        all.wait_for(|heard| *heard == WATCHERS as u64).await.unwrap();
        let (mut times, mut client, value) = (Times::default(), self.client(0), value());
        let before = self.servers.cpu_seconds();
        let until = Instant::now() + self.time;
        while Instant::now() < until {
            let wanted = (times.each.len() as u64 + 2) * WATCHERS as u64;
            let key = Bytes::from_static(WATCHED);
            let started = Instant::now();
            client.put(PutRequest { key, value: value.clone(), ..PutRequest::default() }).await.unwrap();
            all.wait_for(|heard| *heard >= wanted).await.unwrap();
            times.each.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
        times.cpu = self.servers.cpu_seconds() - before;
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

/// Opens `count` streams with a watch each on one connection, and counts their messages: one says that the watch was
/// made, then each tells of one change, since the next comes when all have heard of it.
async fn watch_key(address: &str, count: usize, heard: &watch::Sender<u64>) {
    let create = WatchCreateRequest { key: Bytes::from_static(WATCHED), ..WatchCreateRequest::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }.encode_to_vec();
    let mut connection = Lean::connect(address, "/etcdserverpb.Watch/Watch").await;
    let mut streams: HashMap<u32, Vec<u8>> =
        (0..count).map(|_| (connection.begin(&create, false), Vec::new())).collect();
    loop {
        let mut messages = 0;
        let more = connection.turn(Duration::MAX, |frame| {
            if frame.is_data()
                && let Some(bytes) = streams.get_mut(&frame.stream)
            {
                bytes.extend_from_slice(frame.payload);
                messages += take_messages(bytes);
            }
        });
        more.await;
        if messages > 0 {
            heard.send_modify(|heard| *heard += messages);
        }
    }
}

/// Takes whole messages off the front; gives their number.
fn take_messages(bytes: &mut Vec<u8>) -> u64 {
    let (mut at, mut count) = (0, 0);
    while let Some([_, length @ ..]) = bytes.get(at..).and_then(|rest| rest.first_chunk::<5>()) {
        let end = at + 5 + u32::from_be_bytes(*length) as usize;
        if end > bytes.len() {
            break;
        }
        (at, count) = (end, count + 1);
    }
    bytes.drain(..at);
    count
}
