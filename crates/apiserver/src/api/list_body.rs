//! Lists in JSON, written piece by piece from stored bytes: a list of any size needs the memory of one piece.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use store::Entry;

use super::list::list_meta;
use crate::http::negotiate::Media;
use crate::http::{Body, BoxError, respond};
use crate::registry::stored::{header, memo};
use crate::registry::{ListPage, Served};
use crate::status::{ApiError, ApiResult};

/// Bytes in one piece.
const PIECE: usize = 128 * 1024;

/// The answer with a page.
pub(super) fn response(served: &Served, page: ListPage) -> ApiResult<Response<Body>> {
    let resource = &served.resource;
    let mut start = header(&resource.list_kind, &resource.api_version());
    start.extend_from_slice(b"\"metadata\":");
    serde_json::to_writer(&mut start, &list_meta(&page)).map_err(ApiError::internal)?;
    start.extend_from_slice(b",\"items\":[");
    let item_header =
        if resource.custom { header(&resource.kind, &resource.api_version()) } else { b"{".to_vec() };
    let size: usize = page.entries.iter().map(|e| e.value.len()).sum();
    let mut list =
        ListBody { entries: page.entries.into_iter(), start: Some(start), item_header, first: true };
    if size < PIECE {
        let mut bytes = Vec::new();
        while let Some(piece) = list.piece() {
            bytes.extend_from_slice(&piece);
        }
        return Ok(respond::bytes(200, Media::Json.name(), bytes));
    }
    let mut response = Response::new(list.boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Media::Json.name()));
    Ok(response)
}

struct ListBody {
    entries: std::vec::IntoIter<Arc<Entry>>,
    start: Option<Vec<u8>>,
    item_header: Vec<u8>,
    first: bool,
}

impl ListBody {
    /// The next piece; `None` after the last.
    fn piece(&mut self) -> Option<Vec<u8>> {
        if self.start.is_none() && self.first {
            return None;
        }
        let mut out = self.start.take().unwrap_or_default();
        out.reserve(PIECE + PIECE / 4);
        while out.len() < PIECE {
            let Some(entry) = self.entries.next() else {
                out.extend_from_slice(b"]}\n");
                // Marks the end: no start and nothing written since.
                self.first = true;
                return Some(out);
            };
            if !std::mem::take(&mut self.first) {
                out.push(b',');
            }
            memo(&entry).write_json(&mut out, &entry, &self.item_header, entry.mod_revision.0);
        }
        Some(out)
    }
}

impl http_body::Body for ListBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.get_mut().piece().map(|piece| Ok(Frame::data(piece.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
