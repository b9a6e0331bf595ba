//! What of a request is refused before the store sees it, in etcd's order and words (`api/v3rpc/key.go`).

use std::collections::HashSet;

use bytes::Bytes;
use proto::etcd::rpc::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, range_request, request_op,
};
use store::KeyRange;

use crate::convert::key_range;
use crate::status::{self, Known};

pub(super) fn range(request: &RangeRequest) -> Result<(), Known> {
    if request.key.is_empty() {
        return Err(status::EMPTY_KEY);
    }
    let order = range_request::SortOrder::try_from(request.sort_order);
    let target = range_request::SortTarget::try_from(request.sort_target);
    if order.is_err() || target.is_err() { Err(status::INVALID_SORT) } else { Ok(()) }
}

pub(super) fn put(request: &PutRequest) -> Result<(), Known> {
    if request.key.is_empty() {
        return Err(status::EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(status::VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(status::LEASE_PROVIDED);
    }
    Ok(())
}

pub(super) fn delete(request: &DeleteRangeRequest) -> Result<(), Known> {
    if request.key.is_empty() { Err(status::EMPTY_KEY) } else { Ok(()) }
}

/// A transaction may have `max_ops` operations; one within it what the outer one leaves.
pub(super) fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), Known> {
    ops(request, max_ops)?;
    writes(&request.success)?;
    writes(&request.failure)?;
    Ok(())
}

fn ops(request: &TxnRequest, max_ops: usize) -> Result<(), Known> {
    let count = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = max_ops.checked_sub(count).ok_or(status::TOO_MANY_OPS)?;
    if request.compare.iter().any(|Compare { key, .. }| key.is_empty()) {
        return Err(status::EMPTY_KEY);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(request_op::Request::RequestRange(request)) => range(request)?,
            Some(request_op::Request::RequestPut(request)) => put(request)?,
            Some(request_op::Request::RequestDeleteRange(request)) => delete(request)?,
            Some(request_op::Request::RequestTxn(request)) => ops(request, left)?,
            None => return Err(status::KEY_NOT_FOUND),
        }
    }
    Ok(())
}

/// What a list of operations can write, whichever way its nested comparisons go.
#[derive(Default)]
struct Writes {
    puts: HashSet<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Writes {
    fn deletes(&self, key: &Bytes) -> bool {
        self.deletes.iter().any(|range| range.contains(key))
    }

    fn put(&mut self, key: &Bytes) -> Result<(), Known> {
        if self.deletes(key) || !self.puts.insert(key.clone()) { Err(status::DUPLICATE_KEY) } else { Ok(()) }
    }
}

/// No key may be written twice at one revision; the two branches of a nested transaction may write the same one.
fn writes(ops: &[RequestOp]) -> Result<Writes, Known> {
    let mut all = Writes::default();
    for op in ops {
        if let Some(request_op::Request::RequestDeleteRange(request)) = &op.request {
            // etcd takes an end of `"\0"` by the letter here, so that nothing lies before it.
            if request.range_end[..] != *b"\0" {
                all.deletes.push(key_range(&request.key, &request.range_end));
            }
        }
    }
    for op in ops {
        let Some(request_op::Request::RequestTxn(request)) = &op.request else { continue };
        let (then, otherwise) = (writes(&request.success)?, writes(&request.failure)?);
        then.puts.iter().try_for_each(|key| all.put(key))?;
        for key in &otherwise.puts {
            if then.puts.contains(key) {
                continue;
            }
            all.put(key)?;
        }
        all.deletes.extend(then.deletes);
        all.deletes.extend(otherwise.deletes);
    }
    for op in ops {
        if let Some(request_op::Request::RequestPut(request)) = &op.request {
            all.put(&request.key)?;
        }
    }
    Ok(all)
}

/// Whether a transaction may put anything.
pub(super) fn puts(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match &op.request {
        Some(request_op::Request::RequestPut(_)) => true,
        Some(request_op::Request::RequestTxn(inner)) => puts(inner),
        _ => false,
    })
}

/// Whether a transaction may change anything.
pub(super) fn is_write(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match &op.request {
        Some(request_op::Request::RequestPut(_) | request_op::Request::RequestDeleteRange(_)) => true,
        Some(request_op::Request::RequestTxn(inner)) => is_write(inner),
        _ => false,
    })
}

/// Whether all reads of a transaction may be of this member's state.
pub(super) fn is_serializable(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        Some(request_op::Request::RequestRange(range)) => range.serializable,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_op(key: &'static str) -> RequestOp {
        let put = PutRequest { key: Bytes::from_static(key.as_bytes()), ..PutRequest::default() };
        RequestOp { request: Some(request_op::Request::RequestPut(put)) }
    }

    fn delete_op(key: &'static str, end: &'static str) -> RequestOp {
        let (key, range_end) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(end.as_bytes()));
        let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
        RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete)) }
    }

    fn of(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
        TxnRequest { compare: Vec::new(), success, failure }
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        RequestOp { request: Some(request_op::Request::RequestTxn(of(success, failure))) }
    }

    #[test]
    fn a_key_is_written_once() {
        let duplicate = Err(status::DUPLICATE_KEY);
        let cases = [
            (of(vec![put_op("a"), put_op("b")], vec![put_op("a")]), Ok(())),
            (of(vec![put_op("a"), put_op("a")], vec![]), duplicate),
            (of(vec![], vec![put_op("a"), delete_op("a", "")]), duplicate),
            (of(vec![put_op("b"), delete_op("a", "c")], vec![]), duplicate),
            (of(vec![delete_op("a", "c"), delete_op("b", "")], vec![]), Ok(())),
            (of(vec![nested(vec![put_op("a")], vec![put_op("a")])], vec![]), Ok(())),
            (of(vec![nested(vec![put_op("a")], vec![]), put_op("a")], vec![]), duplicate),
            (of(vec![nested(vec![], vec![delete_op("a", "c")]), put_op("b")], vec![]), duplicate),
            (of(vec![nested(vec![], vec![delete_op("a", "\0")]), put_op("b")], vec![]), Ok(())),
            (of(vec![put_op("")], vec![]), Err(status::EMPTY_KEY)),
            (of(vec![RequestOp { request: None }], vec![]), Err(status::KEY_NOT_FOUND)),
        ];
        for (number, (request, expected)) in cases.into_iter().enumerate() {
            assert_eq!(txn(&request, 128), expected, "case {number}");
        }
        let many = of((0..3).map(|_| delete_op("a", "")).collect(), vec![]);
        assert_eq!((txn(&many, 3), txn(&many, 2)), (Ok(()), Err(status::TOO_MANY_OPS)));
        let within = of(vec![nested(vec![put_op("a"), put_op("b")], vec![])], vec![]);
        assert_eq!((txn(&within, 3), txn(&within, 2)), (Ok(()), Err(status::TOO_MANY_OPS)));
    }
}
