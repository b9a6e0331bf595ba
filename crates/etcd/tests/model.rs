//! The same random operations on our server and on Debian's etcd: every answer is compared, and what watches tell.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

mod common;

use std::collections::BTreeSet;

use bytes::Bytes;
use common::{debian, installed, ours};
use fastrand::Rng;
use proto::etcd::kv::Event;
use proto::etcd::rpc::kv_client::KvClient;
use proto::etcd::rpc::lease_client::LeaseClient;
use proto::etcd::rpc::watch_client::WatchClient;
use proto::etcd::rpc::watch_request::RequestUnion;
use proto::etcd::rpc::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader,
    ResponseOp, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest, compare, request_op, response_op,
};
use tonic::Status;
use tonic::transport::Channel;

const KEYS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
const LEASES: i64 = 4;
const OPERATIONS: usize = 400;
const SEEDS: [u64; 2] = [7, 20_260];

#[derive(Debug, Clone)]
enum Operation {
    Put(PutRequest),
    Range(RangeRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
    TimeToLive(LeaseTimeToLiveRequest),
    Leases,
}

/// Makes operations; knows as much of the state as it needs to ask sensible things.
struct Generator {
    rng: Rng,
    revision: i64,
    compacted: i64,
    leases: BTreeSet<i64>,
}

impl Generator {
    fn key(&mut self) -> Bytes {
        Bytes::from_static(KEYS[self.rng.usize(..KEYS.len())].as_bytes())
    }

    fn range_end(&mut self) -> Bytes {
        match self.rng.u8(..6) {
            0 => Bytes::from_static(b"\0"),
            1 | 2 => self.key(),
            _ => Bytes::new(),
        }
    }

    fn maybe(&mut self, one_in: u8) -> bool {
        self.rng.u8(..one_in) == 0
    }

    /// A revision to look at, mostly one that can be looked at.
    fn at(&mut self, sensible: bool) -> i64 {
        match self.rng.u8(..8) {
            0..=3 => 0,
            4 if !sensible => self.revision + 5,
            5 if !sensible => self.rng.i64(1..=self.compacted.max(1)),
            _ => self.rng.i64(self.compacted.max(1)..=self.revision),
        }
    }

    fn lease(&mut self) -> i64 {
        let all: Vec<i64> = self.leases.iter().copied().collect();
        if all.is_empty() || self.maybe(2) { 0 } else { all[self.rng.usize(..all.len())] }
    }

    fn put(&mut self, within_txn: bool) -> PutRequest {
        let (ignore_value, ignore_lease) = (self.maybe(8), self.maybe(8));
        let value = if ignore_value && !self.maybe(4) { String::new() } else { self.rng.u8(..5).to_string() };
        let lease = match ignore_lease {
            true => 0,
            false if !within_txn && self.maybe(12) => 999,
            false => self.lease(),
        };
        PutRequest {
            key: self.key(),
            value: value.into(),
            lease,
            prev_kv: self.rng.bool(),
            ignore_value,
            ignore_lease,
        }
    }

    fn range(&mut self, within_txn: bool) -> RangeRequest {
        let revision = self.at(within_txn);
        let bound = |this: &mut Self| if this.maybe(6) { this.rng.i64(0..=this.revision) } else { 0 };
        RangeRequest {
            key: self.key(),
            range_end: self.range_end(),
            limit: if self.rng.bool() { self.rng.i64(0..6) } else { 0 },
            revision,
            sort_order: self.rng.i32(0..3),
            sort_target: self.rng.i32(0..5),
            serializable: self.rng.bool(),
            keys_only: self.maybe(5),
            count_only: self.maybe(6),
            min_mod_revision: bound(self),
            max_mod_revision: bound(self),
            min_create_revision: bound(self),
            max_create_revision: bound(self),
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let range_end = if self.maybe(3) { self.range_end() } else { Bytes::new() };
        DeleteRangeRequest { key: self.key(), range_end, prev_kv: self.rng.bool() }
    }

    fn compare(&mut self) -> Compare {
        use compare::TargetUnion;
        let number = if self.rng.bool() { self.rng.i64(0..4) } else { self.rng.i64(0..=self.revision) };
        let target = self.rng.i32(0..5);
        let union = match target {
            0 => TargetUnion::Version(number),
            1 => TargetUnion::CreateRevision(number),
            2 => TargetUnion::ModRevision(number),
            3 => TargetUnion::Value(self.rng.u8(..5).to_string().into()),
            _ => TargetUnion::Lease(self.lease()),
        };
        Compare {
            result: self.rng.i32(0..4),
            target,
            key: self.key(),
            target_union: Some(union),
            range_end: if self.maybe(4) { self.range_end() } else { Bytes::new() },
        }
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        let ops = |this: &mut Self| -> Vec<RequestOp> {
            (0..this.rng.usize(..4)).map(|_| RequestOp { request: Some(this.op(depth)) }).collect()
        };
        let (success, failure) = (ops(self), ops(self));
        TxnRequest { compare: (0..self.rng.usize(..3)).map(|_| self.compare()).collect(), success, failure }
    }

    fn op(&mut self, depth: usize) -> request_op::Request {
        match self.rng.u8(..9) {
            0 | 1 => request_op::Request::RequestRange(self.range(true)),
            2 => request_op::Request::RequestDeleteRange(self.delete()),
            3 if depth > 0 => request_op::Request::RequestTxn(self.txn(depth - 1)),
            _ => request_op::Request::RequestPut(self.put(true)),
        }
    }

    fn operation(&mut self) -> Operation {
        match self.rng.u8(..40) {
            0 => {
                let revision = self.at(false).max(1);
                Operation::Compact(CompactionRequest { revision, physical: self.rng.bool() })
            }
            1 | 2 => Operation::Grant(LeaseGrantRequest { ttl: 5000, id: 1 + self.rng.i64(0..LEASES) }),
            3 => Operation::Revoke(LeaseRevokeRequest { id: 1 + self.rng.i64(0..LEASES) }),
            4 => {
                Operation::TimeToLive(LeaseTimeToLiveRequest { id: 1 + self.rng.i64(0..LEASES), keys: true })
            }
            5 => Operation::Leases,
            6..=17 => Operation::Range(self.range(false)),
            18..=21 => Operation::Delete(self.delete()),
            22..=30 => Operation::Txn(self.txn(2)),
            _ => Operation::Put(self.put(false)),
        }
    }
}

fn plain(header: &mut Option<ResponseHeader>) -> i64 {
    let revision = header.map_or(0, |header| header.revision);
    *header = header.map(|header| ResponseHeader { revision: header.revision, ..ResponseHeader::default() });
    revision
}

/// Inner headers: what is in them is compared, but for the term that one server puts in.
fn plain_txn(answer: &mut TxnResponse) {
    plain(&mut answer.header);
    for ResponseOp { response } in &mut answer.responses {
        match response {
            Some(response_op::Response::ResponseTxn(inner)) => plain_txn(inner),
            Some(response_op::Response::ResponseRange(inner)) => _ = plain(&mut inner.header),
            Some(response_op::Response::ResponsePut(inner)) => _ = plain(&mut inner.header),
            Some(response_op::Response::ResponseDeleteRange(inner)) => _ = plain(&mut inner.header),
            None => {}
        }
    }
}

/// The answer as text, without what may differ, and the revision that it tells.
async fn ask(channel: &Channel, operation: &Operation) -> (String, i64) {
    let mut kv = KvClient::new(channel.clone());
    let mut leases = LeaseClient::new(channel.clone());
    macro_rules! told {
        ($answer:expr, $plain:expr) => {
            match $answer.await {
                Ok(answer) => {
                    let mut answer = answer.into_inner();
                    let revision = plain(&mut answer.header);
                    #[allow(clippy::redundant_closure_call, reason = "one form for all")]
                    ($plain)(&mut answer);
                    (format!("{answer:?}"), revision)
                }
                Err(status) => (refused(&status), 0),
            }
        };
    }
    match operation.clone() {
        Operation::Put(request) => told!(kv.put(request), |_| ()),
        Operation::Range(request) => told!(kv.range(request), |_| ()),
        Operation::Delete(request) => told!(kv.delete_range(request), |_| ()),
        Operation::Txn(request) => told!(kv.txn(request), plain_txn),
        Operation::Compact(request) => told!(kv.compact(request), |_| ()),
        Operation::Grant(request) => told!(leases.lease_grant(request), |_| ()),
        Operation::Revoke(request) => told!(leases.lease_revoke(request), |_| ()),
        Operation::TimeToLive(request) => {
            told!(
                leases.lease_time_to_live(request),
                |answer: &mut proto::etcd::rpc::LeaseTimeToLiveResponse| {
                    answer.ttl = answer.ttl.min(0);
                    answer.keys.sort();
                }
            )
        }
        Operation::Leases => told!(
            leases.lease_leases(LeaseLeasesRequest {}),
            |answer: &mut proto::etcd::rpc::LeaseLeasesResponse| answer.leases.sort_by_key(|lease| lease.id)
        ),
    }
}

fn refused(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// What a watch tells until `last`, or why it ended.
async fn watched(channel: &Channel, create: WatchCreateRequest, last: i64) -> (Vec<Event>, i64) {
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    requests.send(create).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers = WatchClient::new(channel.clone()).watch(stream).await.unwrap().into_inner();
    let mut events: Vec<Event> = Vec::new();
    loop {
        let answer = answers.message().await.unwrap().unwrap();
        if answer.canceled {
            return (events, answer.compact_revision);
        }
        events.extend(answer.events);
        if events.last().is_some_and(|event| event.kv.as_ref().unwrap().mod_revision >= last) {
            return (events, 0);
        }
    }
}

async fn compare(seed: u64, both: &[Channel; 2]) {
    let mut generator =
        Generator { rng: Rng::with_seed(seed), revision: 1, compacted: 0, leases: BTreeSet::new() };
    for number in 0..OPERATIONS {
        let operation = generator.operation();
        let (mine, theirs) = tokio::join!(ask(&both[0], &operation), ask(&both[1], &operation));
        assert_eq!(mine.0, theirs.0, "seed {seed}, operation {number}: {operation:#?}");
        let done = mine.1 != 0;
        generator.revision = generator.revision.max(mine.1);
        match &operation {
            Operation::Compact(request) if done => generator.compacted = request.revision,
            Operation::Grant(request) if done => _ = generator.leases.insert(request.id),
            Operation::Revoke(request) if done => _ = generator.leases.remove(&request.id),
            _ => {}
        }
    }
    // The last events of every range: one of each kind.
    let mut last = [0, 0];
    for key in KEYS {
        let put = PutRequest { key: Bytes::from_static(key.as_bytes()), ..PutRequest::default() };
        let delete = DeleteRangeRequest { key: put.key.clone(), ..DeleteRangeRequest::default() };
        for (index, operation) in [Operation::Put(put), Operation::Delete(delete)].into_iter().enumerate() {
            let (mine, theirs) = tokio::join!(ask(&both[0], &operation), ask(&both[1], &operation));
            assert_eq!(mine, theirs);
            last[index] = mine.1;
        }
    }
    for _ in 0..12 {
        let filters: Vec<i32> = (0..2).filter(|_| generator.maybe(4)).take(1).collect();
        let create = WatchCreateRequest {
            key: generator.key(),
            range_end: Bytes::from_static(b"\0"),
            start_revision: generator.rng.i64(generator.compacted + 1..=generator.revision),
            prev_kv: generator.rng.bool(),
            fragment: generator.rng.bool(),
            filters: filters.clone(),
            ..WatchCreateRequest::default()
        };
        let until = if filters == [1] { last[0] } else { last[1] };
        let (mine, theirs) =
            tokio::join!(watched(&both[0], create.clone(), until), watched(&both[1], create.clone(), until));
        assert_eq!(mine, theirs, "seed {seed}: {create:?}");
    }
    if generator.compacted > 2 {
        let create =
            WatchCreateRequest { key: generator.key(), start_revision: 1, ..WatchCreateRequest::default() };
        let (mine, theirs) = tokio::join!(watched(&both[0], create.clone(), 0), watched(&both[1], create, 0));
        assert_eq!(mine, theirs, "a watch from before the compaction");
        assert_eq!(mine.1, generator.compacted);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_have_the_same_answers() {
    if !installed("etcd") || !installed("etcdctl") {
        return;
    }
    for seed in SEEDS {
        let theirs = tokio::task::spawn_blocking(|| debian(&[])).await.unwrap();
        let mine = ours().await;
        let both = [&mine, &theirs].map(|one| etcd::connect(&one.endpoint, &[], None).unwrap());
        compare(seed, &both).await;
    }
}
