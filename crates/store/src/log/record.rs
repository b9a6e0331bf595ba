//! Records: what a frame's payload holds. A log tells effects, not requests.

use bytes::Bytes;

use crate::history::Change;
use crate::{EventKind, Key, LeaseId, Revision};

const CHANGE: u8 = 1;
const LEASE_GRANT: u8 = 2;
const LEASE_REVOKE: u8 = 3;
const LEASE_RENEW: u8 = 4;
const COMPACT: u8 = 5;
const JUMP: u8 = 6;
const CLOSE: u8 = 7;
const RELAXED: u8 = 8;
const SETTING: u8 = 9;
const RAFT_ENTRY: u8 = 10;
const RAFT_VOTE: u8 = 11;
const RAFT_COMMIT: u8 = 12;

const PUT: u8 = 0;
const DELETE: u8 = 1;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// What one revision changed.
    Change { revision: Revision, writes: Vec<Write> },
    /// A lease was granted.
    LeaseGrant { id: LeaseId, ttl_s: i64, expires_ms: i64 },
    /// A lease ended; the deletion of its keys is a change of its own in the same frame.
    LeaseRevoke { id: LeaseId },
    /// A lease was kept alive.
    LeaseRenew { id: LeaseId, expires_ms: i64 },
    /// The history up to here was given up.
    Compact { revision: Revision },
    /// After an unclean stop the revisions go on at `to`.
    Jump { from: Revision, to: Revision },
    /// The store was closed in order.
    Close,
    /// From here on relaxed writes may have been answered that are not on disk.
    Relaxed,
    /// A setting has this version and value now.
    Setting { name: Key, version: u64, value: Bytes },
    /// An entry of the Raft log; what was there from its index on is gone.
    RaftEntry(raft::Entry),
    /// The member's newest term and its vote there.
    RaftVote { term: u64, vote: u64 },
    /// Entries up to here are known to be committed.
    RaftCommit { index: u64 },
}

/// A write of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    Put { key: Key, value: Bytes, lease: LeaseId },
    Delete { key: Key },
}

pub(super) fn put_number(buffer: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        buffer.push(number as u8 | 0x80);
        number >>= 7;
    }
    buffer.push(number as u8);
}

pub(super) fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    put_number(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

/// Appends the record of a change.
pub(crate) fn encode_change(buffer: &mut Vec<u8>, change: &Change) {
    buffer.push(CHANGE);
    put_number(buffer, change.revision.0);
    put_number(buffer, change.events.len() as u64);
    for event in change.events.iter() {
        match event.kind {
            EventKind::Put => {
                buffer.push(PUT);
                put_bytes(buffer, &event.entry.key);
                put_number(buffer, event.entry.lease.0 as u64);
                put_bytes(buffer, &event.entry.value);
            }
            EventKind::Delete => {
                buffer.push(DELETE);
                put_bytes(buffer, &event.entry.key);
            }
        }
    }
}

/// Appends a record other than [`Record::Change`], which [`encode_change`] is for.
pub(crate) fn encode_record(buffer: &mut Vec<u8>, record: &Record) {
    let (tag, numbers): (u8, &[u64]) = match record {
        Record::Change { .. } => return,
        Record::RaftEntry(entry) => return encode_entry(buffer, entry),
        Record::RaftVote { term, vote } => (RAFT_VOTE, &[*term, *vote]),
        Record::RaftCommit { index } => (RAFT_COMMIT, &[*index]),
        Record::Setting { name, version, value } => {
            buffer.push(SETTING);
            put_bytes(buffer, name);
            put_number(buffer, *version);
            return put_bytes(buffer, value);
        }
        Record::LeaseGrant { id, ttl_s, expires_ms } => {
            (LEASE_GRANT, &[id.0 as u64, *ttl_s as u64, *expires_ms as u64])
        }
        Record::LeaseRevoke { id } => (LEASE_REVOKE, &[id.0 as u64]),
        Record::LeaseRenew { id, expires_ms } => (LEASE_RENEW, &[id.0 as u64, *expires_ms as u64]),
        Record::Compact { revision } => (COMPACT, &[revision.0]),
        Record::Jump { from, to } => (JUMP, &[from.0, to.0]),
        Record::Close => (CLOSE, &[]),
        Record::Relaxed => (RELAXED, &[]),
    };
    buffer.push(tag);
    numbers.iter().for_each(|number| put_number(buffer, *number));
}

/// Appends the record of an entry of the Raft log.
pub(crate) fn encode_entry(buffer: &mut Vec<u8>, entry: &raft::Entry) {
    buffer.push(RAFT_ENTRY);
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    raft::wire::put_entry(buffer, entry);
    // An entry is far below 4 GiB: requests and URLs are limited.
    let length = (buffer.len() - start - 4) as u32;
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Reads what the `put_` functions wrote. None: the bytes end early or are not of the format.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn lease(&mut self) -> Option<LeaseId> {
        Some(LeaseId(self.number()? as i64))
    }

    pub(super) fn revision(&mut self) -> Option<Revision> {
        Some(Revision(self.number()?))
    }

    fn write(&mut self) -> Option<Write> {
        let put = match self.byte()? {
            PUT => true,
            DELETE => false,
            _ => return None,
        };
        let key = Key::from(self.bytes()?);
        if !put {
            return Some(Write::Delete { key });
        }
        let lease = self.lease()?;
        Some(Write::Put { key, value: Bytes::copy_from_slice(self.bytes()?), lease })
    }

    fn record(&mut self) -> Option<Record> {
        Some(match self.byte()? {
            CHANGE => {
                let revision = self.revision()?;
                let count = self.number()?;
                let writes = (0..count).map(|_| self.write()).collect::<Option<_>>()?;
                Record::Change { revision, writes }
            }
            LEASE_GRANT => Record::LeaseGrant {
                id: self.lease()?,
                ttl_s: self.number()? as i64,
                expires_ms: self.number()? as i64,
            },
            LEASE_REVOKE => Record::LeaseRevoke { id: self.lease()? },
            LEASE_RENEW => Record::LeaseRenew { id: self.lease()?, expires_ms: self.number()? as i64 },
            COMPACT => Record::Compact { revision: self.revision()? },
            JUMP => Record::Jump { from: self.revision()?, to: self.revision()? },
            CLOSE => Record::Close,
            RELAXED => Record::Relaxed,
            RAFT_ENTRY => {
                let (length, rest) = self.0.split_at_checked(4)?;
                let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
                let (entry, rest) = rest.split_at_checked(length)?;
                self.0 = rest;
                let mut reader = raft::wire::Reader(Bytes::copy_from_slice(entry));
                Record::RaftEntry(raft::wire::entry(&mut reader)?)
            }
            RAFT_VOTE => Record::RaftVote { term: self.number()?, vote: self.number()? },
            RAFT_COMMIT => Record::RaftCommit { index: self.number()? },
            SETTING => Record::Setting {
                name: Key::from(self.bytes()?),
                version: self.number()?,
                value: Bytes::copy_from_slice(self.bytes()?),
            },
            _ => return None,
        })
    }
}

/// All records of a payload; none if it is not of the format.
pub(super) fn decode(payload: &[u8]) -> Option<Vec<Record>> {
    let mut reader = Reader(payload);
    let mut records = Vec::new();
    while !reader.0.is_empty() {
        records.push(reader.record()?);
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_decode_to_what_was_encoded() {
        let records = [
            Record::LeaseGrant { id: LeaseId(-5), ttl_s: 60, expires_ms: 1_700_000_000_000 },
            Record::LeaseRenew { id: LeaseId(i64::MAX), expires_ms: -1 },
            Record::LeaseRevoke { id: LeaseId(1) },
            Record::Compact { revision: Revision(300) },
            Record::Jump { from: Revision(1), to: Revision(u64::MAX) },
            Record::Setting { name: Key::from("auth"), version: 3, value: Bytes::from_static(b"on") },
            Record::RaftEntry(raft::Entry { term: 3, index: 400, payload: raft::Payload::Data("x".into()) }),
            Record::RaftVote { term: 3, vote: 1 << 40 },
            Record::RaftCommit { index: 399 },
            Record::Relaxed,
            Record::Close,
        ];
        let mut buffer = Vec::new();
        records.iter().for_each(|record| encode_record(&mut buffer, record));
        assert_eq!(decode(&buffer).unwrap(), records);
        assert_eq!(decode(&buffer[..buffer.len() - 3]), None);
        assert_eq!(decode(b"\x63"), None);
    }
}
