//! The answers of a watch. Events are encoded once for all watchers that get the same ones.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, encode_varint};
use prost::{DecodeError, Message};
use proto::etcd::rpc::WatchResponse;
use store::{Event, EventKind, WatchBatch};

use super::encode::{LENGTH_DELIMITED, entry_len, message_len, put_entry, put_number};

/// Field number and wire type of `WatchResponse.events`, and of the fields of `Event`.
const EVENTS: u8 = 11 << 3 | LENGTH_DELIMITED;
const TYPE: u8 = 1 << 3;
const KV: u8 = 2 << 3 | LENGTH_DELIMITED;
const PREV_KV: u8 = 3 << 3 | LENGTH_DELIMITED;
const DELETE: u64 = 1;

/// A `WatchResponse`; it is only ever encoded.
#[derive(Debug, Default)]
pub(crate) struct WatchAnswer {
    /// All fields but what `events` adds.
    pub(super) head: WatchResponse,
    /// Encoded fields `events`, which come last in the message.
    pub(super) events: Vec<Arc<EncodedEvents>>,
}

impl From<WatchResponse> for WatchAnswer {
    fn from(head: WatchResponse) -> Self {
        Self { head, events: Vec::new() }
    }
}

/// The events of one batch as fields of a `WatchResponse`.
#[derive(Debug)]
pub(super) struct EncodedEvents {
    with_prev: bool,
    bytes: Bytes,
}

impl EncodedEvents {
    /// All events of a batch, with or without what was there before. Watchers of both kinds that share a batch are
    /// rare: the first one's encoding is kept.
    pub(super) fn of(batch: &WatchBatch, with_prev: bool) -> Arc<Self> {
        let shared = batch.memo_or_init(|batch| Self::new(batch.events.iter(), with_prev));
        if shared.with_prev == with_prev { shared } else { Self::picked(batch.events.iter(), with_prev) }
    }

    /// Some events of a batch.
    pub(super) fn picked<'e>(events: impl Iterator<Item = &'e Event> + Clone, with_prev: bool) -> Arc<Self> {
        Arc::new(Self::new(events, with_prev))
    }

    fn new<'e>(events: impl Iterator<Item = &'e Event> + Clone, with_prev: bool) -> Self {
        let size = events.clone().map(|event| message_len(event_len(event, with_prev))).sum();
        let mut bytes = Vec::with_capacity(size);
        events.for_each(|event| put_event(&mut bytes, event, with_prev));
        Self { with_prev, bytes: bytes.into() }
    }
}

fn prev(event: &Event, with_prev: bool) -> Option<&store::Entry> {
    event.prev.as_deref().filter(|_| with_prev)
}

fn event_len(event: &Event, with_prev: bool) -> usize {
    let kind = if event.kind == EventKind::Delete { 2 } else { 0 };
    let before = prev(event, with_prev).map_or(0, |prev| message_len(entry_len(prev, false)));
    kind + message_len(entry_len(&event.entry, false)) + before
}

fn put_event(buf: &mut impl BufMut, event: &Event, with_prev: bool) {
    buf.put_u8(EVENTS);
    encode_varint(event_len(event, with_prev) as u64, buf);
    if event.kind == EventKind::Delete {
        put_number(buf, TYPE, DELETE);
    }
    put_entry(buf, KV, &event.entry, false);
    prev(event, with_prev).into_iter().for_each(|prev| put_entry(buf, PREV_KV, prev, false));
}

impl Message for WatchAnswer {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        self.head.encode_raw(buf);
        self.events.iter().for_each(|events| buf.put_slice(&events.bytes));
    }

    fn encoded_len(&self) -> usize {
        self.head.encoded_len() + self.events.iter().map(|events| events.bytes.len()).sum::<usize>()
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        prost::encoding::skip_field(wire_type, tag, buf, ctx)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use store::{Entry, Key, LeaseId, Revision};

    use super::*;
    use crate::convert;

    fn entry(value: &'static str, version: u64, lease: i64) -> Arc<Entry> {
        let at = (Revision(u64::from(version > 0)), Revision(300), version);
        Arc::new(Entry::new(Key::from("a/key"), Bytes::from_static(value.as_bytes()), at, LeaseId(lease)))
    }

    #[test]
    fn it_reads_as_the_generated_message() {
        let put = Event { kind: EventKind::Put, entry: entry("new", 1, 0), prev: None };
        let again = Event { kind: EventKind::Put, entry: entry("", 2, -1), prev: Some(entry("old", 1, 5)) };
        let gone = Event { kind: EventKind::Delete, entry: entry("", 0, 0), prev: Some(entry("", 2, -1)) };
        let batch = WatchBatch::new(Revision(300), [put, again, gone].into());
        for with_prev in [false, true, false] {
            let head = WatchResponse { watch_id: 7, ..WatchResponse::default() };
            let events = batch.events.iter().map(|event| convert::event(event, with_prev)).collect();
            let expected = WatchResponse { events, ..head.clone() };
            let answer = WatchAnswer { head, events: vec![EncodedEvents::of(&batch, with_prev)] };
            let bytes = answer.encode_to_vec();
            assert_eq!(bytes.len(), answer.encoded_len());
            assert_eq!(WatchResponse::decode(&bytes[..]).unwrap(), expected);
        }
        let (first, second) = (EncodedEvents::of(&batch, false), EncodedEvents::of(&batch, false));
        assert!(Arc::ptr_eq(&first, &second), "watchers share what one of them encoded");
    }
}
