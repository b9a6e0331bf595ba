//! The store's transactions as etcd's, and etcd's answers as the store's.

use std::sync::Arc;

use bytes::Bytes;
use proto::etcd::kv::KeyValue;
use proto::etcd::rpc::{self, compare, request_op, response_op};
use store::{
    Compare, CompareOp, CompareTarget, Delete, Entry, Error, KeyRange, Mirror, Op, OpResult, Put,
    RangeOptions, RangeResult, Revision, Txn, TxnResult,
};

use crate::convert;

/// A range in the API's form: key and end.
fn wire_range(range: &KeyRange, prefix: &[u8]) -> (Bytes, Bytes) {
    let key = [prefix, range.start()].concat();
    let end = match range.end() {
        Some(end) => [prefix, end].concat(),
        None if range.as_single().is_some() => Vec::new(),
        None if prefix.is_empty() => vec![0],
        None => {
            let mut end = prefix.to_vec();
            while end.pop_if(|last| *last == u8::MAX).is_some() {}
            match end.last_mut() {
                Some(last) => *last += 1,
                None => end.push(0),
            }
            end
        }
    };
    // etcd takes no empty key; nothing is below this one.
    let key = if key.is_empty() { vec![0] } else { key };
    (key.into(), end.into())
}

/// A transaction on the wire. Everything that was there before is asked for, since results tell it.
pub(super) fn of_txn(txn: &Txn, prefix: &[u8]) -> Result<rpc::TxnRequest, Error> {
    let ops = |ops: &[Op]| ops.iter().map(|op| of_op(op, prefix)).collect::<Result<Vec<_>, _>>();
    Ok(rpc::TxnRequest {
        compare: txn.compare.iter().map(|compare| of_compare(compare, prefix)).collect(),
        success: ops(&txn.then)?,
        failure: ops(&txn.otherwise)?,
    })
}

fn of_compare(compare: &Compare, prefix: &[u8]) -> rpc::Compare {
    use compare::{CompareResult, CompareTarget as Target, TargetUnion};
    let (key, range_end) = wire_range(&compare.range, prefix);
    let result = match compare.op {
        CompareOp::Equal => CompareResult::Equal,
        CompareOp::NotEqual => CompareResult::NotEqual,
        CompareOp::Greater => CompareResult::Greater,
        CompareOp::Less => CompareResult::Less,
    };
    let (target, union) = match &compare.target {
        CompareTarget::ModRevision(at) => (Target::Mod, TargetUnion::ModRevision(at.as_i64())),
        CompareTarget::CreateRevision(at) => (Target::Create, TargetUnion::CreateRevision(at.as_i64())),
        CompareTarget::Version(version) => {
            (Target::Version, TargetUnion::Version(i64::try_from(*version).unwrap_or(i64::MAX)))
        }
        CompareTarget::Value(value) => (Target::Value, TargetUnion::Value(value.clone())),
        CompareTarget::Lease(lease) => (Target::Lease, TargetUnion::Lease(lease.0)),
    };
    rpc::Compare { result: result.into(), target: target.into(), key, range_end, target_union: Some(union) }
}

fn of_op(op: &Op, prefix: &[u8]) -> Result<rpc::RequestOp, Error> {
    let request = match op {
        Op::Put(put) => request_op::Request::RequestPut(of_put(put, prefix)),
        Op::Delete(Delete { range }) => {
            let (key, range_end) = wire_range(range, prefix);
            request_op::Request::RequestDeleteRange(rpc::DeleteRangeRequest { key, range_end, prev_kv: true })
        }
        Op::Range { range, options } => request_op::Request::RequestRange(of_range(range, *options, prefix)),
        Op::Txn(inner) => request_op::Request::RequestTxn(of_txn(inner, prefix)?),
    };
    Ok(rpc::RequestOp { request: Some(request) })
}

fn of_put(put: &Put, prefix: &[u8]) -> rpc::PutRequest {
    rpc::PutRequest {
        key: [prefix, &put.key].concat().into(),
        value: put.value.clone(),
        lease: put.lease.0,
        prev_kv: true,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

fn of_range(range: &KeyRange, options: RangeOptions, prefix: &[u8]) -> rpc::RangeRequest {
    let (key, range_end) = wire_range(range, prefix);
    rpc::RangeRequest {
        key,
        range_end,
        limit: i64::try_from(options.limit).unwrap_or(i64::MAX),
        revision: options.revision.as_i64(),
        keys_only: options.keys_only,
        count_only: options.count_only,
        ..rpc::RangeRequest::default()
    }
}

fn entry(kv: KeyValue, prefix: &[u8]) -> Arc<Entry> {
    let key = if kv.key.starts_with(prefix) { kv.key.slice(prefix.len()..) } else { kv.key.clone() };
    Arc::new(convert::entry(KeyValue { key, ..kv }))
}

/// What the store's transaction gave, from etcd's answer to [`of_txn`].
pub(super) fn result(txn: &Txn, answer: rpc::TxnResponse, prefix: &[u8]) -> TxnResult {
    let revision = convert::revision(answer.header.unwrap_or_default().revision);
    result_at(txn, answer, prefix, revision)
}

fn result_at(txn: &Txn, answer: rpc::TxnResponse, prefix: &[u8], revision: Revision) -> TxnResult {
    let ops = if answer.succeeded { &txn.then } else { &txn.otherwise };
    let one = |(op, response): (&Op, rpc::ResponseOp)| op_result(op, response.response?, prefix, revision);
    let results = ops.iter().zip(answer.responses).filter_map(one).collect();
    TxnResult { revision, succeeded: answer.succeeded, results }
}

fn op_result(
    op: &Op,
    response: response_op::Response,
    prefix: &[u8],
    revision: Revision,
) -> Option<OpResult> {
    Some(match (op, response) {
        (Op::Put(put), response_op::Response::ResponsePut(answer)) => {
            let prev = answer.prev_kv.map(|kv| entry(kv, prefix));
            OpResult::Put { entry: Arc::new(written(put, prev.as_deref(), revision)), prev }
        }
        (Op::Delete(_), response_op::Response::ResponseDeleteRange(answer)) => {
            OpResult::Delete { deleted: answer.prev_kvs.into_iter().map(|kv| entry(kv, prefix)).collect() }
        }
        (Op::Range { .. }, response_op::Response::ResponseRange(answer)) => OpResult::Range(RangeResult {
            revision,
            entries: answer.kvs.into_iter().map(|kv| entry(kv, prefix)).collect(),
            more: answer.more,
            count: usize::try_from(answer.count).unwrap_or(0),
        }),
        (Op::Txn(inner), response_op::Response::ResponseTxn(answer)) => {
            OpResult::Txn(result_at(inner, answer, prefix, revision))
        }
        _ => return None,
    })
}

/// The entry that a put made.
fn written(put: &Put, prev: Option<&Entry>, revision: Revision) -> Entry {
    let (create, version) = prev.map_or((revision, 1), |prev| (prev.create_revision, prev.version + 1));
    let value =
        prev.filter(|_| put.ignore_value).map_or_else(|| put.value.clone(), |prev| prev.value.clone());
    let lease = prev.filter(|_| put.ignore_lease).map_or(put.lease, |prev| prev.lease);
    Entry::new(put.key.clone(), value, (create, revision, version), lease)
}

/// The newest revision that memory must have before the result may be seen: of what was written, and of what was
/// read. What others did at the same time does not matter.
pub(super) fn seen(result: &TxnResult) -> Revision {
    let newest = |entries: &[Arc<Entry>]| entries.iter().map(|entry| entry.mod_revision).max();
    let one = |outcome: &OpResult| match outcome {
        OpResult::Put { entry, .. } => Some(entry.mod_revision),
        OpResult::Delete { deleted } => (!deleted.is_empty()).then_some(result.revision),
        OpResult::Range(read) => newest(&read.entries),
        OpResult::Txn(inner) => Some(seen(inner)),
    };
    result.results.iter().filter_map(one).max().unwrap_or_default()
}

/// Replaces what memory has as well by what it has, and hangs the memos of puts there.
pub(super) fn share(txn: &Txn, result: &mut TxnResult, mirror: &Mirror) {
    let ops = if result.succeeded { &txn.then } else { &txn.otherwise };
    let shared = |entry: &mut Arc<Entry>| {
        if let Some(own) = mirror.get(&entry.key).filter(|own| own.mod_revision == entry.mod_revision) {
            *entry = own;
        }
    };
    for (op, outcome) in ops.iter().zip(&mut result.results) {
        match (op, outcome) {
            (Op::Put(put), OpResult::Put { entry, .. }) => {
                shared(entry);
                if let Some(memo) = &put.memo {
                    entry.set_memo(memo.clone());
                }
            }
            (Op::Range { .. }, OpResult::Range(read)) => read.entries.iter_mut().for_each(shared),
            (Op::Txn(inner), OpResult::Txn(outcome)) => share(inner, outcome, mirror),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use store::{Key, LeaseId};

    use super::*;

    #[test]
    fn ranges_stay_within_the_prefix() {
        let wire = |range: KeyRange, prefix: &str| {
            let (key, end) = wire_range(&range, prefix.as_bytes());
            (String::from_utf8(key.to_vec()).unwrap(), String::from_utf8(end.to_vec()).unwrap())
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(wire(KeyRange::single("k"), "/p"), pair("/pk", ""));
        assert_eq!(wire(KeyRange::prefix("/a/"), "/p"), pair("/p/a/", "/p/a0"));
        assert_eq!(wire(KeyRange::all(), "/p"), pair("/p", "/q"));
        assert_eq!(wire(KeyRange::all(), ""), pair("\0", "\0"));
        assert_eq!(wire(KeyRange::from("x"), ""), pair("x", "\0"));
    }

    #[test]
    fn a_written_entry_follows_from_the_one_before() {
        let at = (Revision(3), Revision(5), 2);
        let prev = Entry::new(Key::from("k"), Bytes::from_static(b"old"), at, LeaseId(9));
        let mut put = Put::new("k", "");
        put.ignore_value = true;
        let entry = written(&put, Some(&prev), Revision(8));
        assert_eq!((entry.create_revision, entry.version, &entry.value[..]), (Revision(3), 3, &b"old"[..]));
        assert_eq!(entry.lease, LeaseId::NONE);
    }
}
