//! Compression of large answers.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, VARY};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;

use super::body::{Body, BoxError};

/// Answers below this many bytes are not worth it (`defaultGzipThresholdBytes`).
const THRESHOLD: u64 = 128 * 1024;
/// Speed over size, as upstream (`defaultGzipContentEncodingLevel`).
const LEVEL: u32 = 1;

/// Compresses the response if the client takes gzip and the body is large or of unknown length.
pub fn compress(request: &HeaderMap, mut response: http::Response<Body>) -> http::Response<Body> {
    let accepts = request
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|v| v.trim().split(';').next() == Some("gzip"));
    let large = response.body().size_hint().exact().is_none_or(|n| n >= THRESHOLD);
    if !accepts || !large || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    response.headers_mut().remove(CONTENT_LENGTH);
    response.map(|inner| {
        let encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
        Gzip { inner, encoder: Some(encoder) }.boxed_unsync()
    })
}

struct Gzip {
    inner: Body,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl http_body::Body for Gzip {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            let Some(encoder) = &mut this.encoder else { return Poll::Ready(None) };
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if let Err(error) = encoder.write_all(&data) {
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    let out = std::mem::take(encoder.get_mut());
                    if !out.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(out.into()))));
                    }
                }
                Poll::Ready(None) => {
                    let last = this.encoder.take().map(GzEncoder::finish);
                    return Poll::Ready(
                        last.map(|out| out.map(|o| Frame::data(o.into())).map_err(Into::into)),
                    );
                }
            }
        }
    }
}
