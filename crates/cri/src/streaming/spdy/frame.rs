//! Frames on the wire.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::headers::{Decoder, Encoder, Headers};

const VERSION: u16 = 3;
const CONTROL: u8 = 0x80;
const HEAD_BYTES: usize = 8;
/// The largest control frame; data frames are passed on in pieces and may be of any size.
const MAX_CONTROL_BYTES: usize = 64 << 10;
const PIECE_BYTES: usize = 32 << 10;
const STREAM_ID_MASK: u32 = 0x7fff_ffff;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

const FLAG_FIN: u8 = 1;

/// What the other side sends, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A new stream.
    Open { id: u32, headers: Headers, fin: bool },
    /// A piece of a stream; `fin` with its last.
    Data { id: u32, data: Bytes, fin: bool },
    /// A stream is given up.
    Reset { id: u32 },
    /// To be sent back.
    Ping { id: u32 },
    /// No new streams will come, and the connection ends soon.
    GoAway,
    /// Something that needs no answer.
    Other,
}

/// What we send.
#[derive(Debug)]
pub enum Outgoing {
    Reply { id: u32 },
    Data { id: u32, data: Bytes, fin: bool },
    Reset { id: u32, status: u32 },
    Ping { id: u32 },
}

/// Reads frames.
pub struct Reader<R> {
    io: R,
    decoder: Decoder,
    /// A data frame that is not read to its end yet: stream, bytes left, whether it is the stream's last.
    unread: Option<(u32, usize, bool)>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub fn new(io: R) -> Self {
        Self { io, decoder: Decoder::new(), unread: None }
    }

    /// The next frame, or piece of a data frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> io::Result<Option<Incoming>> {
        if let Some((id, left, fin)) = self.unread.take() {
            return self.data(id, left, fin).await.map(Some);
        }
        let mut head = [0; HEAD_BYTES];
        match self.io.read_exact(&mut head).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        };
        let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (flags, length) = (head[4], u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize);
        if head[0] & CONTROL == 0 {
            return self.data(word, length, flags & FLAG_FIN != 0).await.map(Some);
        }
        let (version, kind) = ((word >> 16) as u16 & 0x7fff, word as u16);
        if version != VERSION {
            return Err(invalid("not SPDY/3"));
        }
        if length > MAX_CONTROL_BYTES {
            return Err(invalid("a control frame is too large"));
        }
        let mut body = vec![0; length];
        self.io.read_exact(&mut body).await?;
        self.control(kind, flags, &body).map(Some)
    }

    async fn data(&mut self, id: u32, left: usize, fin: bool) -> io::Result<Incoming> {
        let count = left.min(PIECE_BYTES);
        let mut data = BytesMut::zeroed(count);
        self.io.read_exact(&mut data).await?;
        let rest = left - count;
        if rest > 0 {
            self.unread = Some((id, rest, fin));
        }
        Ok(Incoming::Data { id: id & STREAM_ID_MASK, data: data.freeze(), fin: fin && rest == 0 })
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> io::Result<Incoming> {
        let number = |at: usize| {
            let bytes = body.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map(u32::from_be_bytes).ok_or_else(|| invalid("a control frame is cut off"))
        };
        let rest = |at: usize| body.get(at..).ok_or_else(|| invalid("a control frame is cut off"));
        let fin = flags & FLAG_FIN != 0;
        Ok(match kind {
            SYN_STREAM => {
                let id = number(0)? & STREAM_ID_MASK;
                Incoming::Open { id, headers: self.decoder.decode(rest(10)?)?, fin }
            }
            // Blocks that do not matter must be decompressed all the same: the stream goes on behind them.
            SYN_REPLY | HEADERS => {
                self.decoder.decode(rest(4)?)?;
                Incoming::Other
            }
            RST_STREAM => Incoming::Reset { id: number(0)? & STREAM_ID_MASK },
            PING => Incoming::Ping { id: number(0)? },
            GOAWAY => Incoming::GoAway,
            _ => Incoming::Other,
        })
    }
}

/// Turns frames into bytes.
pub struct Writer {
    encoder: Encoder,
}

impl Writer {
    pub fn new() -> io::Result<Self> {
        Ok(Self { encoder: Encoder::new()? })
    }

    /// A frame's head, with what is small behind it; data follows on its own.
    pub fn encode(&mut self, frame: &Outgoing) -> io::Result<Bytes> {
        let mut out = BytesMut::new();
        match frame {
            Outgoing::Data { id, data, fin } => {
                out.put_u32(*id);
                put_flags_and_length(&mut out, *fin, data.len());
            }
            Outgoing::Reply { id } => {
                let block = self.encoder.encode(&Vec::new())?;
                put_control(&mut out, SYN_REPLY, 4 + block.len());
                out.put_u32(*id);
                out.extend_from_slice(&block);
            }
            Outgoing::Reset { id, status } => {
                put_control(&mut out, RST_STREAM, 8);
                out.put_u32(*id);
                out.put_u32(*status);
            }
            Outgoing::Ping { id } => {
                put_control(&mut out, PING, 4);
                out.put_u32(*id);
            }
        }
        Ok(out.freeze())
    }
}

fn put_control(out: &mut BytesMut, kind: u16, length: usize) {
    out.put_u16(VERSION | u16::from(CONTROL) << 8);
    out.put_u16(kind);
    put_flags_and_length(out, false, length);
}

fn put_flags_and_length(out: &mut BytesMut, fin: bool, length: usize) {
    out.put_u32((u32::from(fin) << 24) | length as u32);
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN_STREAM as a client writes it.
    fn syn_stream(encoder: &mut Encoder, id: u32, kind: &str) -> Vec<u8> {
        let block = encoder.encode(&vec![("streamtype".to_owned(), kind.to_owned())]).unwrap();
        let mut out = BytesMut::new();
        put_control(&mut out, SYN_STREAM, 10 + block.len());
        out.put_u32(id);
        out.put_u32(0);
        out.put_u16(0);
        out.extend_from_slice(&block);
        out.to_vec()
    }

    async fn read_all(bytes: &[u8]) -> io::Result<Vec<Incoming>> {
        let mut reader = Reader::new(bytes);
        let mut found = Vec::new();
        while let Some(frame) = reader.next().await? {
            found.push(frame);
        }
        Ok(found)
    }

    #[tokio::test]
    async fn what_a_client_sends_is_understood() {
        let mut encoder = Encoder::new().unwrap();
        let mut writer = Writer::new().unwrap();
        let mut bytes = syn_stream(&mut encoder, 1, "error");
        bytes.extend(syn_stream(&mut encoder, 3, "stdin"));
        let data = Outgoing::Data { id: 3, data: Bytes::from_static(b"hello"), fin: true };
        bytes.extend(writer.encode(&data).unwrap());
        bytes.extend(b"hello");
        bytes.extend(writer.encode(&Outgoing::Ping { id: 7 }).unwrap());
        bytes.extend(writer.encode(&Outgoing::Reset { id: 3, status: 5 }).unwrap());
        let open = |id, kind: &str| Incoming::Open {
            id,
            headers: vec![("streamtype".to_owned(), kind.to_owned())],
            fin: false,
        };
        let expect = [
            open(1, "error"),
            open(3, "stdin"),
            Incoming::Data { id: 3, data: Bytes::from_static(b"hello"), fin: true },
            Incoming::Ping { id: 7 },
            Incoming::Reset { id: 3 },
        ];
        assert_eq!(read_all(&bytes).await.unwrap(), expect);
    }

    #[tokio::test]
    async fn large_data_comes_in_pieces_and_ends_once() {
        let payload = vec![7; PIECE_BYTES * 2 + 1];
        let data = Outgoing::Data { id: 5, data: payload.clone().into(), fin: true };
        let mut bytes = Writer::new().unwrap().encode(&data).unwrap().to_vec();
        bytes.extend(&payload);
        let found = read_all(&bytes).await.unwrap();
        assert_eq!(found.len(), 3);
        let ends: Vec<bool> = found.iter().map(|f| matches!(f, Incoming::Data { fin: true, .. })).collect();
        assert_eq!(ends, [false, false, true]);
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        assert!(read_all(b"\x80\x02\x00\x01\x00\x00\x00\x00").await.is_err(), "another version");
        assert!(read_all(b"\x80\x03\x00\x01\x00\xff\xff\xff").await.is_err(), "too large");
        assert!(read_all(b"\x80\x03\x00\x06\x00\x00\x00\x01\x00").await.is_err(), "a ping too short");
        assert!(read_all(b"\x00\x00\x00\x01\x00\x00\x00\x09abc").await.is_err(), "cut off");
        assert!(read_all(b"").await.unwrap().is_empty());
    }
}
