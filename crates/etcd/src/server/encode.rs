//! A stored entry as a `KeyValue` message, written straight into the bytes of an answer.

use bytes::BufMut;
use prost::encoding::{encode_varint, encoded_len_varint};
use store::Entry;

/// Wire type of strings, bytes and messages.
pub(super) const LENGTH_DELIMITED: u8 = 2;

/// The tags of `KeyValue`: field number and wire type.
mod tag {
    pub(super) const KEY: u8 = 1 << 3 | super::LENGTH_DELIMITED;
    pub(super) const CREATE_REVISION: u8 = 2 << 3;
    pub(super) const MOD_REVISION: u8 = 3 << 3;
    pub(super) const VERSION: u8 = 4 << 3;
    pub(super) const VALUE: u8 = 5 << 3 | super::LENGTH_DELIMITED;
    pub(super) const LEASE: u8 = 6 << 3;
}

/// Bytes of a number with its tag; the default value is left out.
pub(super) fn number_len(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + encoded_len_varint(number) }
}

fn bytes_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { message_len(bytes.len()) }
}

/// Bytes of something of `length` with its tag and length.
pub(super) fn message_len(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

pub(super) fn put_number(buf: &mut impl BufMut, tag: u8, number: u64) {
    if number != 0 {
        buf.put_u8(tag);
        encode_varint(number, buf);
    }
}

fn put_bytes(buf: &mut impl BufMut, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        buf.put_u8(tag);
        encode_varint(bytes.len() as u64, buf);
        buf.put_slice(bytes);
    }
}

fn value(entry: &Entry, keys_only: bool) -> &[u8] {
    if keys_only { &[] } else { &entry.value }
}

/// Bytes that [`put_entry`] puts after tag and length.
pub(super) fn entry_len(entry: &Entry, keys_only: bool) -> usize {
    let numbers = [entry.create_revision.0, entry.mod_revision.0, entry.version, entry.lease.0 as u64];
    let numbers: usize = numbers.into_iter().map(number_len).sum();
    bytes_len(&entry.key) + bytes_len(value(entry, keys_only)) + numbers
}

/// Appends an entry as the field `tag` of the message around it.
pub(super) fn put_entry(buf: &mut impl BufMut, tag: u8, entry: &Entry, keys_only: bool) {
    buf.put_u8(tag);
    encode_varint(entry_len(entry, keys_only) as u64, buf);
    put_bytes(buf, tag::KEY, &entry.key);
    put_number(buf, tag::CREATE_REVISION, entry.create_revision.0);
    put_number(buf, tag::MOD_REVISION, entry.mod_revision.0);
    put_number(buf, tag::VERSION, entry.version);
    put_bytes(buf, tag::VALUE, value(entry, keys_only));
    put_number(buf, tag::LEASE, entry.lease.0 as u64);
}
