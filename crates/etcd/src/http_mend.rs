//! Lets old Go clients in: those of etcd 3.4 send the whole URL as `:authority` when they dial one member
//! (`etcdctl defrag`, `endpoint status`, …), which HTTP/2 forbids and our library refuses.
//!
//! Such a connection names the same authority in all requests, and only the first spells it out; later ones refer to
//! it. So the first HEADERS frame is looked through, and `://` in it becomes `j--`: of the same length in Huffman's
//! code and in plain, so that nothing else shifts. All other bytes pass untouched.

#![allow(clippy::unusual_byte_groupings, reason = "a group is a character")]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
/// Frames before the first HEADERS (SETTINGS, WINDOW_UPDATE, PING, …) that are looked at.
const MAX_FRAMES: usize = 16;
/// A literal `:authority` that is to be remembered (HPACK, index 1 of the static table).
const AUTHORITY: u8 = 0x41;
/// The length of such a literal says in its first bit whether it is in Huffman's code.
const HUFFMAN: u8 = 0x80;

/// Text, its replacement, and the bits that they take in Huffman's code.
struct Swap {
    plain: (&'static [u8], &'static [u8]),
    coded: (u64, u64),
    bits: u32,
}

/// `http://` and `https://`. Codes of RFC 7541: h 100111, t 01001, p 101011, s 01000, `:` 1011100, `/` 011000,
/// j 1110100, `-` 010110.
const SWAPS: [Swap; 2] = [
    Swap {
        plain: (b"http://", b"httpj--"),
        coded: (
            0b100111_01001_01001_101011_1011100_011000_011000,
            0b100111_01001_01001_101011_1110100_010110_010110,
        ),
        bits: 41,
    },
    Swap {
        plain: (b"https://", b"httpsj--"),
        coded: (
            0b100111_01001_01001_101011_01000_1011100_011000_011000,
            0b100111_01001_01001_101011_01000_1110100_010110_010110,
        ),
        bits: 46,
    },
];

/// Where in the connection the reader is.
enum Stage {
    Preface(usize),
    Head { got: usize, head: [u8; FRAME_HEAD], frames: usize },
    Skip { left: usize, frames: usize },
    Done,
}

/// A connection whose first HEADERS frame is mended.
pub(crate) struct Mended<S> {
    stream: S,
    stage: Stage,
}

impl<S> Mended<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, stage: Stage::Preface(0) }
    }

    /// Looks at bytes that were read. A HEADERS frame is mended if it came in one piece, as small ones do.
    fn look(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            match &mut self.stage {
                Stage::Preface(got) => {
                    let count = bytes.len().min(PREFACE.len() - *got);
                    if bytes[..count] != PREFACE[*got..*got + count] {
                        self.stage = Stage::Done;
                        return;
                    }
                    *got += count;
                    bytes = &mut bytes[count..];
                    if *got == PREFACE.len() {
                        self.stage = Stage::Head { got: 0, head: [0; FRAME_HEAD], frames: 0 };
                    }
                }
                Stage::Head { got, head, frames } => {
                    let count = bytes.len().min(FRAME_HEAD - *got);
                    head[*got..*got + count].copy_from_slice(&bytes[..count]);
                    *got += count;
                    bytes = &mut bytes[count..];
                    if *got < FRAME_HEAD {
                        return;
                    }
                    let left = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                    if head[3] == HEADERS {
                        let end = bytes.len().min(left);
                        mend(&mut bytes[..end]);
                        self.stage = Stage::Done;
                        return;
                    }
                    let frames = *frames + 1;
                    self.stage = if frames < MAX_FRAMES { Stage::Skip { left, frames } } else { Stage::Done };
                }
                Stage::Skip { left, frames } => {
                    let count = bytes.len().min(*left);
                    *left -= count;
                    bytes = &mut bytes[count..];
                    if *left == 0 {
                        self.stage = Stage::Head { got: 0, head: [0; FRAME_HEAD], frames: *frames };
                    }
                }
                Stage::Done => return,
            }
        }
        // An empty frame is over as soon as its head is.
        if let Stage::Skip { left: 0, frames } = self.stage {
            self.stage = Stage::Head { got: 0, head: [0; FRAME_HEAD], frames };
        }
    }
}

/// Mends the authority in a block of headers, if it is there and needs it.
fn mend(block: &mut [u8]) {
    for at in 0..block.len().saturating_sub(2) {
        if block[at] != AUTHORITY {
            continue;
        }
        let coded = block[at + 1] & HUFFMAN != 0;
        let value = &mut block[at + 2..];
        for swap in &SWAPS {
            let done = if coded { mend_coded(value, swap) } else { mend_plain(value, swap) };
            if done {
                return;
            }
        }
    }
}

fn mend_plain(value: &mut [u8], swap: &Swap) -> bool {
    let (from, to) = swap.plain;
    let found = value.starts_with(from);
    if found {
        value[..to.len()].copy_from_slice(to);
    }
    found
}

fn mend_coded(value: &mut [u8], swap: &Swap) -> bool {
    let Some(first) = value.first_chunk_mut::<8>() else { return false };
    let bits = u64::from_be_bytes(*first);
    let shift = u64::BITS - swap.bits;
    if bits >> shift != swap.coded.0 {
        return false;
    }
    let rest = bits & ((1 << shift) - 1);
    *first = (swap.coded.1 << shift | rest).to_be_bytes();
    true
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if !matches!(self.stage, Stage::Done) && matches!(read, Poll::Ready(Ok(()))) {
            self.look(&mut buf.filled_mut()[before..]);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_headers_change() {
        let frame = |kind: u8, payload: &[u8]| {
            let mut frame = vec![0, 0, payload.len() as u8, kind, 0, 0, 0, 0, 1];
            frame.extend_from_slice(payload);
            frame
        };
        let block = [&[0x83, 0x86, AUTHORITY, 20][..], b"http://127.0.0.1:123"].concat();
        let bytes =
            [PREFACE, &frame(4, b""), &frame(4, b"abcdef"), &frame(1, &block), &frame(1, &block)].concat();
        for piece in [7, 1000] {
            let mut mended = Mended::new(());
            let mut got = bytes.clone();
            // The first HEADERS frame stays in one piece.
            let (start, end) = got.split_at_mut(PREFACE.len() + 9 + 9 + 6);
            start.chunks_mut(piece).for_each(|chunk| mended.look(chunk));
            mended.look(end);
            let text = String::from_utf8_lossy(&got).into_owned();
            assert!(text.contains("httpj--127.0.0.1:123") && text.contains("http://127.0.0.1:123"), "{text}");
            assert_eq!(got.len(), bytes.len());
        }
        // `http://a` in Huffman's code, with the padding of ones.
        let coded = 0b100111_01001_01001_101011_1011100_011000_011000_u64 << 23 | 0b00011 << 18 | 0x3ffff;
        let mut block = [&[AUTHORITY, HUFFMAN | 6][..], &coded.to_be_bytes()].concat();
        mend(&mut block);
        let now = u64::from_be_bytes(block[2..].try_into().unwrap());
        assert_eq!(now >> 23, 0b100111_01001_01001_101011_1110100_010110_010110);
        assert_eq!(now & 0x7f_ffff, coded & 0x7f_ffff);
    }
}
