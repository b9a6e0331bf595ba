//! Between messages of the v3 API and the store's values.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;
use proto::etcd::kv::{self, KeyValue};
use proto::etcd::rpc::range_request::{SortOrder, SortTarget};
use proto::etcd::rpc::{self, ResponseHeader, compare, request_op, response_op};
use store::{
    Compare, CompareOp, CompareTarget, Delete, Entry, Event, EventKind, Key, KeyRange, LeaseId, Op, OpResult,
    Put, RangeOptions, RangeResult, Revision, Txn, TxnResult,
};

/// The range of a request: without an end one key, with the end `"\0"` everything from the key on.
pub fn key_range(key: &[u8], range_end: &[u8]) -> KeyRange {
    match range_end {
        [] => KeyRange::single(key),
        [0] => KeyRange::from(key),
        end => KeyRange::between(key, end),
    }
}

/// A wire revision; negative ones mean "newest", as zero does.
pub fn revision(wire: i64) -> Revision {
    Revision(u64::try_from(wire).unwrap_or(0))
}

/// An entry without its value.
fn bare(entry: &Entry) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(&entry.key),
        create_revision: entry.create_revision.as_i64(),
        mod_revision: entry.mod_revision.as_i64(),
        version: i64::try_from(entry.version).unwrap_or(i64::MAX),
        value: Bytes::new(),
        lease: entry.lease.0,
    }
}

/// An entry; its value is shared.
pub fn key_value(entry: &Entry) -> KeyValue {
    KeyValue { value: entry.value.clone(), ..bare(entry) }
}

/// An event of a watch.
pub fn event(event: &Event, prev_kv: bool) -> kv::Event {
    let kind = match event.kind {
        EventKind::Put => kv::event::EventType::Put,
        EventKind::Delete => kv::event::EventType::Delete,
    };
    let prev = event.prev.as_ref().filter(|_| prev_kv);
    kv::Event { r#type: kind.into(), kv: Some(key_value(&event.entry)), prev_kv: prev.map(|p| key_value(p)) }
}

/// Whether a range must be read whole before the limit counts.
fn reads_all(request: &rpc::RangeRequest) -> bool {
    request.sort_order() != SortOrder::None
        || request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// How the store is to read for a request. As etcd does, one entry more than the limit is read: so that there are
/// more is known, and sorting without an order sees it.
pub fn range_options(request: &rpc::RangeRequest) -> RangeOptions {
    let limit = usize::try_from(request.limit).unwrap_or(0);
    RangeOptions {
        limit: if limit == 0 || reads_all(request) { 0 } else { limit.saturating_add(1) },
        revision: revision(request.revision),
        count_only: request.count_only,
        keys_only: request.keys_only,
    }
}

/// Leaves what a request wants of what was read with [`range_options`], in its order; says whether there is more.
pub fn select(request: &rpc::RangeRequest, read: &mut RangeResult) -> bool {
    let inside = |at: Revision, min: i64, max: i64| {
        (min == 0 || at.as_i64() >= min) && (max == 0 || at.as_i64() <= max)
    };
    if reads_all(request) {
        read.entries.retain(|entry| {
            inside(entry.mod_revision, request.min_mod_revision, request.max_mod_revision)
                && inside(entry.create_revision, request.min_create_revision, request.max_create_revision)
        });
    }
    sort(&mut read.entries, request.sort_order(), request.sort_target());
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let more = read.entries.len() > limit;
    read.entries.truncate(limit);
    more
}

/// The answer to a range of what was read with [`range_options`].
pub fn range_response(
    request: &rpc::RangeRequest,
    mut read: RangeResult,
    header: ResponseHeader,
) -> rpc::RangeResponse {
    let more = select(request, &mut read);
    let shape = if request.keys_only { bare } else { key_value };
    rpc::RangeResponse {
        header: Some(header),
        kvs: read.entries.iter().map(|entry| shape(entry)).collect(),
        more,
        count: read.count as i64,
    }
}

fn sort(entries: &mut [Arc<Entry>], order: SortOrder, target: SortTarget) {
    if target == SortTarget::Key && order != SortOrder::Descend {
        return;
    }
    let compare = |a: &Arc<Entry>, b: &Arc<Entry>| -> Ordering {
        match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        }
    };
    match order {
        SortOrder::Descend => entries.sort_by(|a, b| compare(b, a)),
        SortOrder::None | SortOrder::Ascend => entries.sort_by(compare),
    }
}

/// A put of the store. The value is copied: that of a request shares a buffer of many times its size, which would stay
/// with the key.
pub fn put(request: &rpc::PutRequest) -> Put {
    let mut put =
        Put::new(&*request.key, Bytes::copy_from_slice(&request.value)).with_lease(LeaseId(request.lease));
    put.ignore_value = request.ignore_value;
    put.ignore_lease = request.ignore_lease;
    put
}

/// A transaction of the store. It must have been checked.
pub fn txn(request: &rpc::TxnRequest) -> Txn {
    Txn {
        compare: request.compare.iter().map(comparison).collect(),
        then: request.success.iter().filter_map(op).collect(),
        otherwise: request.failure.iter().filter_map(op).collect(),
        ..Txn::default()
    }
}

fn op(request: &rpc::RequestOp) -> Option<Op> {
    Some(match request.request.as_ref()? {
        request_op::Request::RequestRange(range) => {
            Op::Range { range: key_range(&range.key, &range.range_end), options: range_options(range) }
        }
        request_op::Request::RequestPut(request) => Op::Put(put(request)),
        request_op::Request::RequestDeleteRange(request) => {
            Op::Delete(Delete { range: key_range(&request.key, &request.range_end) })
        }
        request_op::Request::RequestTxn(request) => Op::Txn(Box::new(txn(request))),
    })
}

/// A comparison without its union compares with zero, as etcd has it.
fn comparison(request: &rpc::Compare) -> Compare {
    use compare::TargetUnion;
    let target = match (request.target(), &request.target_union) {
        (compare::CompareTarget::Version, Some(TargetUnion::Version(version))) => {
            CompareTarget::Version(u64::try_from(*version).unwrap_or(0))
        }
        (compare::CompareTarget::Version, _) => CompareTarget::Version(0),
        (compare::CompareTarget::Create, Some(TargetUnion::CreateRevision(at))) => {
            CompareTarget::CreateRevision(revision(*at))
        }
        (compare::CompareTarget::Create, _) => CompareTarget::CreateRevision(Revision::ZERO),
        (compare::CompareTarget::Mod, Some(TargetUnion::ModRevision(at))) => {
            CompareTarget::ModRevision(revision(*at))
        }
        (compare::CompareTarget::Mod, _) => CompareTarget::ModRevision(Revision::ZERO),
        (compare::CompareTarget::Value, Some(TargetUnion::Value(value))) => {
            CompareTarget::Value(value.clone())
        }
        (compare::CompareTarget::Value, _) => CompareTarget::Value(Bytes::new()),
        (compare::CompareTarget::Lease, Some(TargetUnion::Lease(lease))) => {
            CompareTarget::Lease(LeaseId(*lease))
        }
        (compare::CompareTarget::Lease, _) => CompareTarget::Lease(LeaseId::NONE),
    };
    let op = match request.result() {
        compare::CompareResult::Equal => CompareOp::Equal,
        compare::CompareResult::Greater => CompareOp::Greater,
        compare::CompareResult::Less => CompareOp::Less,
        compare::CompareResult::NotEqual => CompareOp::NotEqual,
    };
    Compare { range: key_range(&request.key, &request.range_end), op, target }
}

/// The answer to a transaction. Headers of what it did hold a revision only, those of nested ones nothing.
pub fn txn_response(
    request: &rpc::TxnRequest,
    result: TxnResult,
    header: ResponseHeader,
) -> rpc::TxnResponse {
    let before = Revision(result.revision.0 - u64::from(changed(&result)));
    let mut at = before;
    responses(request, result, header, before, &mut at)
}

fn changed(result: &TxnResult) -> bool {
    result.results.iter().any(|result| match result {
        OpResult::Put { .. } => true,
        OpResult::Delete { deleted } => !deleted.is_empty(),
        OpResult::Range(_) => false,
        OpResult::Txn(inner) => changed(inner),
    })
}

/// `at` is the revision that the next operation sees.
fn responses(
    request: &rpc::TxnRequest,
    result: TxnResult,
    header: ResponseHeader,
    before: Revision,
    at: &mut Revision,
) -> rpc::TxnResponse {
    let ops = if result.succeeded { &request.success } else { &request.failure };
    let mut responses = Vec::with_capacity(ops.len());
    for (op, result) in ops.iter().zip(result.results) {
        let response = op.request.as_ref().and_then(|op| response(op, result, before, at));
        responses.push(rpc::ResponseOp { response });
    }
    rpc::TxnResponse { header: Some(header), succeeded: result.succeeded, responses }
}

fn response(
    op: &request_op::Request,
    result: OpResult,
    before: Revision,
    at: &mut Revision,
) -> Option<response_op::Response> {
    let header = |at: Revision| ResponseHeader { revision: at.as_i64(), ..ResponseHeader::default() };
    Some(match (op, result) {
        (request_op::Request::RequestRange(request), OpResult::Range(read)) => {
            response_op::Response::ResponseRange(range_response(request, read, header(*at)))
        }
        (request_op::Request::RequestPut(request), OpResult::Put { prev, .. }) => {
            *at = before.next();
            let prev_kv = prev.filter(|_| request.prev_kv).map(|prev| key_value(&prev));
            response_op::Response::ResponsePut(rpc::PutResponse { header: Some(header(*at)), prev_kv })
        }
        (request_op::Request::RequestDeleteRange(request), OpResult::Delete { deleted }) => {
            if !deleted.is_empty() {
                *at = before.next();
            }
            response_op::Response::ResponseDeleteRange(delete_response(
                request.prev_kv,
                &deleted,
                header(*at),
            ))
        }
        (request_op::Request::RequestTxn(request), OpResult::Txn(inner)) => {
            let inner = responses(request, inner, ResponseHeader::default(), before, at);
            response_op::Response::ResponseTxn(inner)
        }
        _ => return None,
    })
}

/// The answer to a deletion.
pub fn delete_response(
    prev: bool,
    deleted: &[Arc<Entry>],
    header: ResponseHeader,
) -> rpc::DeleteRangeResponse {
    let prev_kvs = if prev { deleted.iter().map(|entry| key_value(entry)).collect() } else { Vec::new() };
    rpc::DeleteRangeResponse { header: Some(header), deleted: deleted.len() as i64, prev_kvs }
}

/// What was put, for callers that know the key.
pub fn put_response(prev: Option<&Arc<Entry>>, header: ResponseHeader) -> rpc::PutResponse {
    rpc::PutResponse { header: Some(header), prev_kv: prev.map(|prev| key_value(prev)) }
}

/// A member as the API has it.
pub fn member(member: &store::Member) -> rpc::Member {
    rpc::Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

/// An entry of the store from the wire.
pub fn entry(kv: KeyValue) -> Entry {
    let at =
        (revision(kv.create_revision), revision(kv.mod_revision), u64::try_from(kv.version).unwrap_or(0));
    Entry::new(Key::from(&*kv.key), kv.value, at, LeaseId(kv.lease))
}
