//! Clients that write, swap and read registers, and the history of what they were answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::etcd::rpc::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcd::rpc::kv_client::KvClient;
use proto::etcd::rpc::request_op::Request;
use proto::etcd::rpc::{Compare, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

use crate::linear::{Call, Kind, is_linearizable};
use crate::ranges::Ranges;

/// Clients at once.
const CLIENTS: usize = 6;
/// Registers at once; each is left for a new one after so many calls.
const REGISTERS: u64 = 3;
const CALLS_EACH: u64 = 90;
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between two calls of a client, so that a history stays short enough to be checked.
const PAUSE: Duration = Duration::from_millis(5);
/// Calls between two reads of the whole keyspace.
const RANGE_EVERY: u64 = 40;
/// What all registers' names begin with.
pub const PREFIX: &str = "r/";

/// When an answered call began and ended, and the revision that it was told.
struct Stamp {
    begin: u64,
    end: u64,
    revision: i64,
    writes: bool,
}

/// See the module.
pub struct Load {
    endpoints: Mutex<Vec<String>>,
    start: Instant,
    calls: AtomicU64,
    stopped: AtomicBool,
    history: Mutex<BTreeMap<String, Vec<Call>>>,
    stamps: Mutex<Vec<Stamp>>,
    pub ranges: Ranges,
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
    // The second key shows whether a transaction is seen in halves.
    let puts = [key.to_owned(), format!("twin/{key}")];
    let puts = puts.map(|key| RequestOp { request: Some(Request::RequestPut(put(&key, value))) });
    TxnRequest { compare: vec![compare], success: puts.into(), failure: Vec::new() }
}

fn revision(header: Option<ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

impl Load {
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints: Mutex::new(endpoints),
            start: Instant::now(),
            calls: AtomicU64::new(1),
            stopped: AtomicBool::new(false),
            history: Mutex::default(),
            stamps: Mutex::default(),
            ranges: Ranges::default(),
        }
    }

    pub fn set_endpoints(&self, endpoints: Vec<String>) {
        *self.endpoints.lock().unwrap() = endpoints;
    }

    pub fn endpoint(&self) -> String {
        let endpoints = self.endpoints.lock().unwrap();
        endpoints[fastrand::usize(..endpoints.len())].clone()
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
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
        while !self.is_stopped() {
            let endpoint = self.endpoint();
            let client = channels
                .entry(endpoint.clone())
                .or_insert_with(|| KvClient::new(etcd::connect(&endpoint, &[], None).unwrap()));
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            let key = format!("{PREFIX}{}-{}", call % REGISTERS, call / (REGISTERS * CALLS_EACH));
            self.call(client, &key, call, &mut seen).await;
            if call.is_multiple_of(RANGE_EVERY) {
                self.ranges.read(client, PATIENCE).await;
            }
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
        let asked = tokio::time::timeout(PATIENCE, Self::ask(client, key, call, expected)).await;
        let end = self.now();
        let unanswered = match call % 5 {
            0 | 1 => Some(Kind::Write(call)),
            2 => Some(Kind::Swap(expected, call)),
            _ => None,
        };
        let (kind, answered) = match (asked, unanswered) {
            (Ok(Ok((kind, revision))), _) => {
                let writes = matches!(kind, Kind::Write(_) | Kind::Swap(..));
                self.stamps.lock().unwrap().push(Stamp { begin, end, revision, writes });
                (kind, Some(end))
            }
            (_, Some(kind)) => (kind, None),
            (_, None) => return,
        };
        if let Kind::Write(value) | Kind::Swap(_, value) | Kind::Read(value) = kind {
            seen.insert(key.to_owned(), value);
        }
        self.history.lock().unwrap().entry(key.to_owned()).or_default().push(Call {
            kind,
            begin,
            end: answered,
        });
    }

    async fn ask(
        client: &mut KvClient<Channel>,
        key: &str,
        call: u64,
        expected: u64,
    ) -> Result<(Kind, i64), Status> {
        Ok(match call % 5 {
            0 | 1 => {
                let answer = client.put(put(key, call)).await?.into_inner();
                (Kind::Write(call), revision(answer.header))
            }
            2 => {
                let answer = client.txn(swap(key, expected, call)).await?.into_inner();
                let kind = if answer.succeeded { Kind::Swap(expected, call) } else { Kind::NoSwap(expected) };
                (kind, revision(answer.header))
            }
            _ => {
                let answer = client.range(range(key)).await?.into_inner();
                let value = answer.kvs.first().map_or(0, |kv| number(&kv.value));
                (Kind::Read(value), revision(answer.header))
            }
        })
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
        check_revisions(&self.stamps.lock().unwrap());
        let answered = history.values().flatten().filter(|call| call.end.is_some()).count();
        (answered, history.values().flatten().count() - answered)
    }
}

/// Whoever asks after somebody was answered is told no lower revision, and a write a higher one.
fn check_revisions(stamps: &[Stamp]) {
    let mut ends: Vec<(u64, i64)> = stamps.iter().map(|stamp| (stamp.end, stamp.revision)).collect();
    let mut begins: Vec<&Stamp> = stamps.iter().collect();
    ends.sort_unstable();
    begins.sort_unstable_by_key(|stamp| stamp.begin);
    let (mut ended, mut highest) = (0, 0);
    for stamp in begins {
        while ends.get(ended).is_some_and(|(end, _)| *end < stamp.begin) {
            highest = highest.max(ends[ended].1);
            ended += 1;
        }
        let least = highest + i64::from(stamp.writes);
        assert!(stamp.revision >= least, "revision {} was told after {highest}", stamp.revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_that_go_back_are_found() {
        let stamp = |begin, end, revision, writes| Stamp { begin, end, revision, writes };
        let write = stamp(1, 2, 5, true);
        check_revisions(&[write, stamp(3, 4, 5, false), stamp(3, 4, 6, true), stamp(1, 9, 4, false)]);
        for late in [stamp(3, 4, 4, false), stamp(3, 4, 5, true)] {
            let stamps = [stamp(1, 2, 5, true), late];
            assert!(std::panic::catch_unwind(|| check_revisions(&stamps)).is_err());
        }
    }
}
