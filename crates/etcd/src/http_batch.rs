//! Gathers what goes out on a connection until it is flushed.
//!
//! Our HTTP/2 library writes a frame of more than a few hundred bytes to its connection at once, with a call of the
//! system each. So thousands of small answers cost more in the kernel than all else that is done for them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are gathered at most; larger pieces go straight through.
const BATCH: usize = 32 << 10;

/// A connection whose writes are gathered.
pub(crate) struct Batched<S> {
    stream: S,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are out already.
    sent: usize,
    /// A flush has let others go first.
    waited: bool,
}

impl<S> Batched<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), sent: 0, waited: false }
    }
}

impl<S: AsyncWrite + Unpin> Batched<S> {
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.buffer.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.buffer[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.buffer.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Batched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.buffer.len() + bytes.len() > BATCH {
            ready!(self.drain(cx))?;
        }
        if bytes.len() > BATCH {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Lets the tasks that are ready run first: those of the same connection add what they have to say, where the
    /// runtime would otherwise come back here after each of them.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.waited && !self.buffer.is_empty() {
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.drain(cx))?;
        self.waited = false;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Batched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn all_comes_in_order_whatever_the_sizes() {
        let (near, mut far) = tokio::io::duplex(1000);
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all
        });
        let mut batched = Batched::new(near);
        let mut expected = Vec::new();
        for (number, size) in [1, 500, BATCH, 3, BATCH + 1, 20_000, 20_000, 0, 7].into_iter().enumerate() {
            let piece = vec![number as u8; size];
            batched.write_all(&piece).await.unwrap();
            expected.extend_from_slice(&piece);
        }
        batched.shutdown().await.unwrap();
        drop(batched);
        assert!(reading.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn small_writes_go_out_together() {
        let (near, mut far) = tokio::io::duplex(1000);
        let mut batched = Batched::new(near);
        batched.write_all(b"one").await.unwrap();
        batched.write_all(b"two").await.unwrap();
        let mut got = [0; 100];
        let early = std::future::poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut got);
            Poll::Ready(Pin::new(&mut far).poll_read(cx, &mut buf).is_pending())
        });
        assert!(early.await, "nothing is sent before it is flushed");
        batched.flush().await.unwrap();
        let count = far.read(&mut got).await.unwrap();
        assert_eq!(&got[..count], b"onetwo");
    }
}
