//! Requests as the entries of the log hold them.

use bytes::Bytes;
use raft::wire::{Reader, put_bytes, put_number};

use crate::{
    Compare, CompareOp, CompareTarget, Delete, Durability, Key, KeyRange, LeaseId, MAX_TXN_DEPTH, Op, Put,
    RangeOptions, Revision, Txn,
};

/// Who asked, so that the member that did can answer: a number of its process, and one of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) session: u64,
    pub(crate) id: u64,
}

/// What a state can be asked to do. Whatever depends on a clock or on chance is decided before.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Txn(Txn),
    LeaseGrant { id: LeaseId, ttl_s: i64 },
    LeaseRevoke { id: LeaseId },
    Compact { revision: Revision },
    Setting { name: Key, expected: u64, value: Bytes },
}

const TXN: u8 = 1;
const LEASE_GRANT: u8 = 2;
const LEASE_REVOKE: u8 = 3;
const COMPACT: u8 = 4;
const SETTING: u8 = 5;

impl Request {
    pub(crate) fn encode(&self, stamp: Stamp) -> Bytes {
        let mut buffer = Vec::with_capacity(self.size() + 64);
        let mut numbers = |tag: u8, numbers: &[u64]| {
            buffer.extend_from_slice(&stamp.session.to_le_bytes());
            put_number(&mut buffer, stamp.id);
            buffer.push(tag);
            numbers.iter().for_each(|number| put_number(&mut buffer, *number));
        };
        match self {
            Self::Txn(txn) => {
                numbers(TXN, &[]);
                put_txn(&mut buffer, txn);
            }
            Self::LeaseGrant { id, ttl_s } => numbers(LEASE_GRANT, &[id.0 as u64, *ttl_s as u64]),
            Self::LeaseRevoke { id } => numbers(LEASE_REVOKE, &[id.0 as u64]),
            Self::Compact { revision } => numbers(COMPACT, &[revision.0]),
            Self::Setting { name, expected, value } => {
                numbers(SETTING, &[*expected]);
                put_bytes(&mut buffer, name);
                put_bytes(&mut buffer, value);
            }
        }
        buffer.into()
    }

    /// About the bytes that it adds to a state at most.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Txn(txn) => txn_size(txn),
            Self::Setting { value, .. } => value.len(),
            _ => 0,
        }
    }

    pub(crate) fn stamp(entry: &Bytes) -> Option<(Stamp, Bytes)> {
        let (session, rest) = entry.split_at_checked(8)?;
        let session = u64::from_le_bytes(session.try_into().ok()?);
        let mut reader = Reader(entry.slice_ref(rest));
        let id = reader.number()?;
        Some((Stamp { session, id }, reader.0))
    }

    /// Reads what follows the stamp.
    pub(crate) fn decode(body: Bytes) -> Option<Self> {
        let reader = &mut Reader(body);
        Some(match reader.byte()? {
            TXN => Self::Txn(txn(reader, 1)?),
            LEASE_GRANT => {
                Self::LeaseGrant { id: LeaseId(reader.number()? as i64), ttl_s: reader.number()? as i64 }
            }
            LEASE_REVOKE => Self::LeaseRevoke { id: LeaseId(reader.number()? as i64) },
            COMPACT => Self::Compact { revision: Revision(reader.number()?) },
            SETTING => Self::Setting {
                expected: reader.number()?,
                name: Key::from(&*reader.bytes()?),
                value: reader.bytes()?,
            },
            _ => return None,
        })
    }
}

fn txn_size(txn: &Txn) -> usize {
    let ops = txn.then.iter().chain(&txn.otherwise);
    ops.map(|op| match op {
        Op::Put(put) => put.key.len() + put.value.len(),
        Op::Txn(inner) => txn_size(inner),
        Op::Delete(_) | Op::Range { .. } => 0,
    })
    .sum()
}

fn put_txn(buffer: &mut Vec<u8>, txn: &Txn) {
    put_number(buffer, txn.compare.len() as u64);
    txn.compare.iter().for_each(|compare| put_compare(buffer, compare));
    for ops in [&txn.then, &txn.otherwise] {
        put_number(buffer, ops.len() as u64);
        ops.iter().for_each(|op| put_op(buffer, op));
    }
}

fn txn(reader: &mut Reader, depth: usize) -> Option<Txn> {
    if depth > MAX_TXN_DEPTH {
        return None;
    }
    let compare = list(reader, compare)?;
    let then = list(reader, |reader| op(reader, depth))?;
    let otherwise = list(reader, |reader| op(reader, depth))?;
    Some(Txn { compare, then, otherwise, durability: Durability::Synced })
}

fn list<T>(reader: &mut Reader, mut one: impl FnMut(&mut Reader) -> Option<T>) -> Option<Vec<T>> {
    let count = reader.number()?;
    (0..count).map(|_| one(reader)).collect()
}

fn put_range(buffer: &mut Vec<u8>, range: &KeyRange) {
    let (kind, end) = match (range.as_single(), range.end()) {
        (Some(_), _) => (0, None),
        (None, Some(end)) => (1, Some(end)),
        (None, None) => (2, None),
    };
    buffer.push(kind);
    put_bytes(buffer, range.start());
    end.into_iter().for_each(|end| put_bytes(buffer, end));
}

fn range(reader: &mut Reader) -> Option<KeyRange> {
    let kind = reader.byte()?;
    let start = reader.bytes()?;
    Some(match kind {
        0 => KeyRange::single(&*start),
        1 => KeyRange::between(&*start, &*reader.bytes()?),
        2 => KeyRange::from(&*start),
        _ => return None,
    })
}

fn put_compare(buffer: &mut Vec<u8>, compare: &Compare) {
    put_range(buffer, &compare.range);
    buffer.push(match compare.op {
        CompareOp::Equal => 0,
        CompareOp::NotEqual => 1,
        CompareOp::Greater => 2,
        CompareOp::Less => 3,
    });
    let (target, number) = match &compare.target {
        CompareTarget::ModRevision(revision) => (0, revision.0),
        CompareTarget::CreateRevision(revision) => (1, revision.0),
        CompareTarget::Version(version) => (2, *version),
        CompareTarget::Lease(lease) => (3, lease.0 as u64),
        CompareTarget::Value(value) => {
            buffer.push(4);
            return put_bytes(buffer, value);
        }
    };
    buffer.push(target);
    put_number(buffer, number);
}

fn compare(reader: &mut Reader) -> Option<Compare> {
    let range = range(reader)?;
    let op = match reader.byte()? {
        0 => CompareOp::Equal,
        1 => CompareOp::NotEqual,
        2 => CompareOp::Greater,
        3 => CompareOp::Less,
        _ => return None,
    };
    let target = match reader.byte()? {
        0 => CompareTarget::ModRevision(Revision(reader.number()?)),
        1 => CompareTarget::CreateRevision(Revision(reader.number()?)),
        2 => CompareTarget::Version(reader.number()?),
        3 => CompareTarget::Lease(LeaseId(reader.number()? as i64)),
        4 => CompareTarget::Value(reader.bytes()?),
        _ => return None,
    };
    Some(Compare { range, op, target })
}

fn put_op(buffer: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Put(put) => {
            buffer.push(u8::from(put.ignore_value) << 4 | u8::from(put.ignore_lease) << 5);
            put_bytes(buffer, &put.key);
            put_number(buffer, put.lease.0 as u64);
            put_bytes(buffer, &put.value);
        }
        Op::Delete(Delete { range }) => {
            buffer.push(1);
            put_range(buffer, range);
        }
        Op::Range { range, options } => {
            buffer.push(2 | u8::from(options.count_only) << 4 | u8::from(options.keys_only) << 5);
            put_range(buffer, range);
            put_number(buffer, options.limit as u64);
            put_number(buffer, options.revision.0);
        }
        Op::Txn(inner) => {
            buffer.push(3);
            put_txn(buffer, inner);
        }
    }
}

fn op(reader: &mut Reader, depth: usize) -> Option<Op> {
    let kind = reader.byte()?;
    let (first, second) = (kind & 0x10 != 0, kind & 0x20 != 0);
    Some(match kind & 0x0f {
        0 => {
            let key = Key::from(&*reader.bytes()?);
            let lease = LeaseId(reader.number()? as i64);
            // A copy: the entry may lie in a buffer with many others, which would stay with the key.
            let value = Bytes::copy_from_slice(&reader.bytes()?);
            Op::Put(Put { key, value, lease, ignore_value: first, ignore_lease: second, memo: None })
        }
        1 => Op::Delete(Delete { range: range(reader)? }),
        2 => {
            let range = range(reader)?;
            let limit = reader.number()? as usize;
            let revision = Revision(reader.number()?);
            Op::Range {
                range,
                options: RangeOptions { limit, revision, count_only: first, keys_only: second },
            }
        }
        3 => Op::Txn(Box::new(txn(reader, depth + 1)?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_decode_to_what_was_encoded() {
        let inner = Txn {
            compare: vec![Compare::mod_revision("k", Revision(3))],
            then: vec![Op::Delete(Delete { range: KeyRange::prefix("a") })],
            ..Txn::default()
        };
        let range = KeyRange::from("x");
        let options = RangeOptions { limit: 3, revision: Revision(9), count_only: true, keys_only: false };
        let value = CompareTarget::Value(Bytes::from_static(b"v"));
        let txn = Txn {
            compare: vec![Compare { range: KeyRange::single("q"), op: CompareOp::Less, target: value }],
            then: vec![Op::Put(Put::new("k", "v").with_lease(LeaseId(-4))), Op::Txn(Box::new(inner))],
            otherwise: vec![Op::Range { range, options }],
            durability: Durability::Synced,
        };
        let requests = [
            Request::Txn(txn),
            Request::LeaseGrant { id: LeaseId(5), ttl_s: 60 },
            Request::LeaseRevoke { id: LeaseId(-1) },
            Request::Compact { revision: Revision(1 << 40) },
            Request::Setting { name: "auth".into(), expected: 2, value: Bytes::from_static(b"on") },
        ];
        let stamp = Stamp { session: u64::MAX, id: 300 };
        for request in requests {
            let bytes = request.encode(stamp);
            let (read, body) = Request::stamp(&bytes).unwrap();
            assert_eq!(read, stamp);
            assert_eq!(format!("{:?}", Request::decode(body.clone()).unwrap()), format!("{request:?}"));
            assert!(Request::decode(body.slice(..body.len() - 1)).is_none());
        }
    }
}
