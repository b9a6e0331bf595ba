//! Lists, made object by object: of any size, they need the memory of one piece (JSON of whole objects, copied from
//! stored bytes) or of the answer (all else), never that of all objects decoded.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use codec::{frame, json};
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use schema::Value;
use store::Entry;
use tokio::task::yield_now;

use super::list::list_meta;
use super::pieces::{self, Reader, Style};
use super::render::{Rows, decode_all};
use crate::core::Core;
use crate::http::negotiate::Media;
use crate::http::{Body, BoxError, respond};
use crate::registry::stored::header;
use crate::registry::{ListPage, Served};
use crate::status::{ApiError, ApiResult};

/// Bytes in one piece.
const PIECE: usize = 128 * 1024;

/// Objects decoded at once where stored bytes cannot be copied; other requests have their turn in between.
const DECODED_AT_ONCE: usize = 128;

/// The answer with a page in JSON.
pub(super) fn response(
    core: &Arc<Core>,
    served: &Served,
    page: ListPage,
    pretty: bool,
) -> ApiResult<Response<Body>> {
    let resource = &served.resource;
    let mut start = header(&resource.list_kind, &resource.api_version());
    start.extend_from_slice(b"\"metadata\":");
    serde_json::to_writer(&mut start, &list_meta(&page)).map_err(ApiError::internal)?;
    start.extend_from_slice(b",\"items\":[");
    let item_header =
        if resource.custom { header(&resource.kind, &resource.api_version()) } else { b"{".to_vec() };
    let style = Style { header: item_header.into(), pretty, first: true };
    if pretty {
        let mut laid_out = Vec::new();
        json::indent(&start, 0, &mut laid_out);
        // The line after the bracket belongs to the first item, if there is one.
        laid_out.truncate(laid_out.trim_ascii_end().len());
        start = laid_out;
    }
    let size: usize = page.entries.iter().map(|e| e.value.len()).sum();
    if size < PIECE {
        start.extend_from_slice(&style.write(&page.entries));
        let style = Style { first: page.entries.is_empty(), ..style };
        start.extend_from_slice(&style.end());
        return Ok(respond::bytes(200, Media::Json.name(), start));
    }
    let entries = page.entries.into_iter();
    let list = ListBody { entries, start: Some(start), style, ended: false, reader: Reader::new(core) };
    let mut response = Response::new(list.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Media::Json.name()));
    Ok(response)
}

/// The answer with a page in protobuf.
pub(super) async fn protobuf(served: &Served, page: ListPage) -> ApiResult<Response<Body>> {
    let resource = &served.resource;
    let mut messages = Vec::with_capacity(page.entries.len());
    for entries in page.entries.chunks(DECODED_AT_ONCE) {
        yield_now().await;
        for object in decode_all(served, entries).await? {
            let message = codec::protobuf::encode_message(&object, &resource.schema);
            messages.push(message.map_err(ApiError::internal)?.into_boxed_slice());
        }
    }
    let meta = frame::ListMeta {
        resource_version: page.revision.to_string(),
        remaining_item_count: page.remaining.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
        continue_token: page.continue_token,
    };
    let item_bytes = messages.iter().map(|message| frame::protobuf_item_length(message.len())).sum();
    let (start, end) =
        frame::protobuf_list_around(&resource.api_version(), &resource.list_kind, &meta, item_bytes)
            .map_err(ApiError::internal)?;
    let length = start.len() + item_bytes + end.len();
    let mut list = ProtobufBody { start, messages: messages.into_iter(), end: Some(end) };
    if length < PIECE {
        return Ok(respond::bytes(200, Media::Protobuf.name(), list.piece().unwrap_or_default()));
    }
    let mut response = Response::new(list.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Media::Protobuf.name()));
    Ok(response)
}

/// The answer with a page as a Table in compact JSON.
pub(super) async fn table(served: &Served, page: &ListPage, rows: &Rows<'_>) -> ApiResult<Response<Body>> {
    // Keys are in order, so that the rows come last.
    const END: &[u8] = b"]}";
    let mut out = json::encode(&rows.table(list_meta(page), true, Vec::new()));
    out.truncate(out.len() - END.len());
    for (at, entries) in page.entries.chunks(DECODED_AT_ONCE).enumerate() {
        yield_now().await;
        for (index, object) in decode_all(served, entries).await?.iter().enumerate() {
            if (at, index) != (0, 0) {
                out.push(b',');
            }
            json::encode_into(&rows.row(object), &mut out);
        }
    }
    out.extend_from_slice(END);
    out.push(b'\n');
    Ok(respond::bytes(200, Media::Json.name(), out))
}

/// What `make` makes of every object of a page in the served version.
pub(super) async fn map(
    served: &Served,
    page: &ListPage,
    make: impl Fn(&Value) -> Value,
) -> ApiResult<Vec<Value>> {
    let mut made = Vec::with_capacity(page.entries.len());
    for entries in page.entries.chunks(DECODED_AT_ONCE) {
        yield_now().await;
        made.extend(decode_all(served, entries).await?.iter().map(&make));
    }
    Ok(made)
}

struct ListBody {
    entries: std::vec::IntoIter<Arc<Entry>>,
    start: Option<Vec<u8>>,
    style: Style,
    ended: bool,
    reader: Reader,
}

impl ListBody {
    /// The next piece; `None` after the last.
    fn piece(&mut self) -> Option<Bytes> {
        if let Some(start) = self.start.take() {
            return Some(start.into());
        }
        let entries = self.entries.as_slice();
        if entries.is_empty() {
            return (!std::mem::replace(&mut self.ended, true)).then(|| self.style.end().into());
        }
        let count = pieces::length(entries);
        let piece = self.reader.get(&entries[..count], &self.style);
        self.style.first = false;
        self.entries.by_ref().take(count).for_each(drop);
        Some(piece)
    }
}

impl http_body::Body for ListBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.get_mut().piece().map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// A list in protobuf, whose length is said at its start: all messages are there before the first is sent.
struct ProtobufBody {
    start: Vec<u8>,
    messages: std::vec::IntoIter<Box<[u8]>>,
    end: Option<Vec<u8>>,
}

impl ProtobufBody {
    /// The next piece; `None` after the last.
    fn piece(&mut self) -> Option<Vec<u8>> {
        let end = self.end.take()?;
        let mut out = std::mem::take(&mut self.start);
        out.reserve(PIECE + PIECE / 4);
        while out.len() < PIECE {
            let Some(message) = self.messages.next() else {
                out.extend_from_slice(&end);
                return Some(out);
            };
            frame::protobuf_item(&message, &mut out);
        }
        self.end = Some(end);
        Some(out)
    }
}

impl http_body::Body for ProtobufBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.get_mut().piece().map(|piece| Ok(Frame::data(piece.into()))))
    }
}
