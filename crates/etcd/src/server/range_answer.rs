//! The answer to a range, encoded from the store's own entries: nothing is copied but into the message.

use std::sync::Arc;

use bytes::{Buf, BufMut};
use futures::future::BoxFuture;
use prost::encoding::{DecodeContext, WireType, encode_varint};
use prost::{DecodeError, Message};
use proto::etcd::rpc::{RangeRequest, ResponseHeader};
use store::Entry;
use tonic::server::UnaryService;
use tonic::{Request, Response, Status};

use super::Server;
use super::encode::{LENGTH_DELIMITED, entry_len, message_len, number_len, put_entry, put_number};
use crate::convert;

/// A `RangeResponse`; it is only ever encoded.
#[derive(Debug, Default)]
pub(crate) struct RangeAnswer {
    pub(super) header: ResponseHeader,
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) keys_only: bool,
    pub(super) more: bool,
    pub(super) count: u64,
}

/// The tags of `RangeResponse`: field number and wire type.
mod tag {
    use super::LENGTH_DELIMITED;

    pub(super) const HEADER: u8 = 1 << 3 | LENGTH_DELIMITED;
    pub(super) const KVS: u8 = 2 << 3 | LENGTH_DELIMITED;
    pub(super) const MORE: u8 = 3 << 3;
    pub(super) const COUNT: u8 = 4 << 3;
}

impl Message for RangeAnswer {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_u8(tag::HEADER);
        encode_varint(self.header.encoded_len() as u64, buf);
        self.header.encode_raw(buf);
        self.entries.iter().for_each(|entry| put_entry(buf, tag::KVS, entry, self.keys_only));
        put_number(buf, tag::MORE, u64::from(self.more));
        put_number(buf, tag::COUNT, self.count);
    }

    fn encoded_len(&self) -> usize {
        let length = |entry: &Arc<Entry>| message_len(entry_len(entry, self.keys_only));
        let entries: usize = self.entries.iter().map(length).sum();
        let more = number_len(u64::from(self.more));
        message_len(self.header.encoded_len()) + entries + more + number_len(self.count)
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

/// `KV.Range` with this answer.
pub(crate) struct RangeCall(pub(crate) Arc<Server>);

impl UnaryService<RangeRequest> for RangeCall {
    type Response = RangeAnswer;
    type Future = BoxFuture<'static, Result<Response<RangeAnswer>, Status>>;

    fn call(&mut self, request: Request<RangeRequest>) -> Self::Future {
        let server = self.0.clone();
        Box::pin(async move {
            let (request, mut read) = server.read(request).await?;
            let more = convert::select(&request, &mut read);
            Ok(Response::new(RangeAnswer {
                header: server.header(read.revision),
                entries: read.entries,
                keys_only: request.keys_only,
                more,
                count: read.count as u64,
            }))
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::etcd::rpc::RangeResponse;
    use store::{Key, LeaseId, RangeResult, Revision};

    use super::*;

    #[test]
    fn it_reads_as_the_generated_message() {
        let entry = |key: &str, value: &'static str, version: u64, lease: i64| {
            let at = (Revision(3), Revision(300), version);
            Arc::new(Entry::new(Key::from(key), Bytes::from_static(value.as_bytes()), at, LeaseId(lease)))
        };
        let entries =
            vec![entry("a", "some value", 1, 0), entry("b", "", 70_000, i64::MAX), entry("c", "x", 2, -1)];
        for (keys_only, more) in [(false, true), (true, false)] {
            let header = ResponseHeader { cluster_id: u64::MAX, member_id: 3, revision: 7, raft_term: 0 };
            let read = RangeResult { revision: Revision(7), entries: entries.clone(), more, count: 3 };
            let limit = if more { 2 } else { 0 };
            let request = RangeRequest { limit, keys_only, ..RangeRequest::default() };
            let expected = convert::range_response(&request, read.clone(), header);
            let mut read = read;
            assert_eq!(convert::select(&request, &mut read), more);
            let answer = RangeAnswer { header, entries: read.entries, keys_only, more, count: 3 };
            let bytes = answer.encode_to_vec();
            assert_eq!(bytes.len(), answer.encoded_len());
            assert_eq!(RangeResponse::decode(&bytes[..]).unwrap(), expected);
        }
    }
}
