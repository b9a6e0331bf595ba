//! Puts HTTP/2 frames together before they are encrypted.
//!
//! The h2 crate writes and flushes each frame by itself. One with 16 KiB of data and its head makes two TLS records, of
//! which one has a few bytes, and a system call; the client, too, reads twice as often as it needs to.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are encrypted and sent together: four TLS records, what rustls takes at once.
const TOGETHER: usize = 64 * 1024;

/// A connection on which the flush after a write waits for what else is written before the task rests.
pub(super) struct Coalesced<S> {
    inner: S,
    /// Written, of which the inner stream has taken `taken` bytes.
    pending: Vec<u8>,
    taken: usize,
    /// Something was written since the last flush.
    written: bool,
}

impl<S: AsyncWrite + Unpin> Coalesced<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, pending: Vec::new(), taken: 0, written: false }
    }

    fn poll_hand_over(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.pending.len() {
            let taken = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.pending[self.taken..]))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.taken += taken;
        }
        self.pending.clear();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_hand_over_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_hand_over(cx))?;
        self.written = false;
        // Idle connections hold nothing.
        self.pending = Vec::new();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Coalesced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Coalesced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.pending.len() >= TOGETHER {
            ready!(this.poll_hand_over(cx))?;
        }
        let before = this.pending.len();
        for slice in slices {
            let room = TOGETHER - this.pending.len();
            this.pending.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        this.written = true;
        Poll::Ready(Ok(this.pending.len() - before))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.written) && this.pending.len() < TOGETHER {
            // The next flush, with nothing written before it, is the one that counts; the task comes to it now that
            // it is woken, if not before.
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_hand_over_all(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_hand_over_all(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn frames_wait_for_each_other_and_none_is_kept() {
        let (near, mut far) = tokio::io::duplex(4 * TOGETHER);
        let mut stream = Coalesced::new(near);
        let mut buffer = vec![0; 4 * TOGETHER];
        for _ in 0..2 {
            stream.write_all(b"head").await.unwrap();
            stream.flush().await.unwrap();
            assert!(futures::poll!(Box::pin(far.read(&mut buffer))).is_pending());
            stream.write_all(b"body").await.unwrap();
            stream.flush().await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(far.read(&mut buffer).await.unwrap(), 8);
            assert_eq!(&buffer[..8], b"headbody");
            assert_eq!(stream.pending.capacity(), 0);
        }
        stream.write_all(b"end").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(far.read(&mut buffer).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn much_goes_through_a_small_pipe_in_order() {
        let (near, mut far) = tokio::io::duplex(1000);
        let sent: Vec<u8> = (0..5 * TOGETHER).map(|at| (at % 251) as u8).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            let mut stream = Coalesced::new(near);
            for frame in sent.chunks(16_393) {
                let (head, data) = frame.split_at(9);
                let mut slices = &mut [IoSlice::new(head), IoSlice::new(data)][..];
                while !slices.is_empty() {
                    let length =
                        poll_fn(|cx| Pin::new(&mut stream).poll_write_vectored(cx, slices)).await.unwrap();
                    IoSlice::advance_slices(&mut slices, length);
                }
                stream.flush().await.unwrap();
            }
            stream.flush().await.unwrap();
        });
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        writer.await.unwrap();
        assert_eq!(received, expected);
    }
}
