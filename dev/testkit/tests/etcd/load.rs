//! Clients that write, swap and read registers, and the history of what they were answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::etcd::rpc::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::rpc::kv_client::KvClient;
use proto::etcd::rpc::request_op::Request;
use proto::etcd::rpc::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

use crate::linear::{Call, Kind, is_linearizable};

/// Clients at once.
const CLIENTS: usize = 6;
/// Registers at once; each is left for a new one after so many calls.
const REGISTERS: u64 = 3;
const CALLS_EACH: u64 = 90;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between two calls of a client, so that a history stays short enough to be checked.
const PAUSE: Duration = Duration::from_millis(5);
/// What all registers' names begin with.
pub const PREFIX: &str = "r/";

/// See the module.
pub struct Load {
    endpoints: Mutex<Vec<String>>,
    start: Instant,
    calls: AtomicU64,
    stopped: AtomicBool,
    history: Mutex<BTreeMap<String, Vec<Call>>>,
}

fn put(key: &str, value: u64) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_string().into(), ..PutRequest::default() }
}

fn range(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() }
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

/// Makes `value` of what was read before, if nobody changed it since.
fn swap(key: &str, expected: u64, value: u64) -> TxnRequest {
    let (target, union) = match expected {
        0 => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        _ => (CompareTarget::Value, TargetUnion::Value(expected.to_string().into())),
    };
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.to_owned().into(),
        target_union: Some(union),
        ..Compare::default()
    };
    let put = RequestOp { request: Some(Request::RequestPut(put(key, value))) };
    TxnRequest { compare: vec![compare], success: vec![put], failure: Vec::new() }
}

impl Load {
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints: Mutex::new(endpoints),
            start: Instant::now(),
            calls: AtomicU64::new(1),
            stopped: AtomicBool::new(false),
            history: Mutex::default(),
        }
    }

    pub fn set_endpoints(&self, endpoints: Vec<String>) {
        *self.endpoints.lock().unwrap() = endpoints;
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub fn start(self: &Arc<Self>) -> Vec<JoinHandle<()>> {
        (0..CLIENTS).map(|_| tokio::spawn(self.clone().client())).collect()
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    async fn client(self: Arc<Self>) {
        let mut channels: BTreeMap<String, KvClient<Channel>> = BTreeMap::new();
        let mut seen = BTreeMap::new();
        while !self.stopped.load(Ordering::Acquire) {
            let endpoint = {
                let endpoints = self.endpoints.lock().unwrap();
                endpoints[fastrand::usize(..endpoints.len())].clone()
            };
            let client = channels
                .entry(endpoint.clone())
                .or_insert_with(|| KvClient::new(etcd::connect(&endpoint, &[], None).unwrap()));
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            let key = format!("{PREFIX}{}-{}", call % REGISTERS, call / (REGISTERS * CALLS_EACH));
            self.call(client, &key, call, &mut seen).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A write that was not answered may have happened or not; a read that was not answered says nothing.
    async fn call(
        &self,
        client: &mut KvClient<Channel>,
        key: &str,
        call: u64,
        seen: &mut BTreeMap<String, u64>,
    ) {
        let begin = self.now();
        let expected = seen.get(key).copied().unwrap_or(0);
        let (kind, answer) = match call % 5 {
            0 | 1 => {
                let asked = tokio::time::timeout(PATIENCE, client.put(put(key, call))).await;
                (Some(Kind::Write(call)), asked.map(|answer| answer.map(|_| Kind::Write(call))))
            }
            2 => {
                let asked = tokio::time::timeout(PATIENCE, client.txn(swap(key, expected, call))).await;
                let kind = |done| if done { Kind::Swap(expected, call) } else { Kind::NoSwap(expected) };
                let answer = asked.map(|answer| answer.map(|answer| kind(answer.into_inner().succeeded)));
                (Some(Kind::Swap(expected, call)), answer)
            }
            _ => {
                let asked = tokio::time::timeout(PATIENCE, client.range(range(key))).await;
                let value = |kvs: &[proto::etcd::kv::KeyValue]| kvs.first().map_or(0, |kv| number(&kv.value));
                let answer: Result<Result<Kind, Status>, _> =
                    asked.map(|answer| answer.map(|answer| Kind::Read(value(&answer.into_inner().kvs))));
                (None, answer)
            }
        };
        let (kind, end) = match (answer, kind) {
            (Ok(Ok(kind)), _) => (kind, Some(self.now())),
            (_, Some(kind)) => (kind, None),
            (_, None) => return,
        };
        if let Kind::Write(value) | Kind::Swap(_, value) | Kind::Read(value) = kind {
            seen.insert(key.to_owned(), value);
        }
        self.history.lock().unwrap().entry(key.to_owned()).or_default().push(Call { kind, begin, end });
    }

    pub async fn last_revision(&self, endpoint: &str) -> i64 {
        let mut client = KvClient::new(etcd::connect(endpoint, &[], None).unwrap());
        client.range(range("nothing")).await.unwrap().into_inner().header.unwrap().revision
    }

    /// Checks every register; gives how many calls were answered, and how many writes were not.
    pub fn check(&self) -> (usize, usize) {
        let history = self.history.lock().unwrap();
        for (key, calls) in history.iter() {
            assert!(is_linearizable(calls), "{key} is not linearizable: {calls:#?}");
        }
        let answered = history.values().flatten().filter(|call| call.end.is_some()).count();
        (answered, history.values().flatten().count() - answered)
    }
}
