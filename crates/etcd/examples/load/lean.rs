//! A gRPC client that costs little, so that the servers are measured and not what measures them: HTTP/2 by hand on one
//! connection, with every request encoded before, and of answers no more read than their end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// What every window is when nobody has said otherwise.
const FIRST_WINDOW: u32 = 65_535;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// Bytes read before the connection's window is opened again.
const REFILL: u32 = 1 << 24;
/// Bytes read at once.
const READ: usize = 64 << 10;

/// One connection to a server.
pub struct Lean {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    next_stream: u32,
    /// What the server still lets through, and what was taken of the own window.
    window: i64,
    taken: u32,
    headers: Vec<u8>,
    headers_again: Vec<u8>,
}

/// A frame as it came.
pub struct Frame<'b> {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: &'b [u8],
}

impl Frame<'_> {
    pub fn is_data(&self) -> bool {
        self.kind == DATA && !self.payload.is_empty()
    }

    pub fn is_end(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A header's value as HPACK has it in plain.
fn literal(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

impl Lean {
    /// Connects to `host:port` for calls of the method at `path`.
    pub async fn connect(address: &str, path: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut out = PREFACE.to_vec();
        let setting = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &LARGEST_WINDOW.to_be_bytes()].concat();
        put_frame(&mut out, SETTINGS, 0, 0, &setting);
        put_frame(&mut out, WINDOW_UPDATE, 0, 0, &(LARGEST_WINDOW - FIRST_WINDOW).to_be_bytes());
        // POST and http are in the static table; the other four come to be in the dynamic one, the last as its first.
        let mut headers = vec![0x83, 0x86, 0x44];
        literal(&mut headers, path);
        headers.push(0x41);
        literal(&mut headers, address);
        headers.push(0x5f);
        literal(&mut headers, "application/grpc");
        headers.push(0x40);
        literal(&mut headers, "te");
        literal(&mut headers, "trailers");
        let headers_again = vec![0x83, 0x86, 0xc1, 0xc0, 0xbf, 0xbe];
        let (window, taken, next_stream) = (i64::from(FIRST_WINDOW), 0, 1);
        Self { stream, out, input: Vec::new(), next_stream, window, taken, headers, headers_again }
    }

    /// Whether a request of `size` bytes may be sent now.
    pub fn has_room(&self, size: usize) -> bool {
        self.window >= size as i64 + 5
    }

    /// Puts a request out; `last` unless more follow on its stream. Gives the stream's number.
    pub fn begin(&mut self, message: &[u8], last: bool) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let headers = std::mem::replace(&mut self.headers, self.headers_again.clone());
        put_frame(&mut self.out, HEADERS, END_HEADERS, stream, &headers);
        let mut data = vec![0];
        data.extend_from_slice(&(message.len() as u32).to_be_bytes());
        data.extend_from_slice(message);
        self.window -= data.len() as i64;
        put_frame(&mut self.out, DATA, if last { END_STREAM } else { 0 }, stream, &data);
        stream
    }

    /// Sends what was put out, waits for something to come, and gives each whole frame that is there to `each`. Nothing
    /// comes within `patience`: false.
    pub async fn turn(&mut self, patience: Duration, mut each: impl FnMut(Frame<'_>)) -> bool {
        self.stream.write_all(&self.out).await.unwrap();
        self.out.clear();
        self.input.reserve(READ);
        let read = tokio::time::timeout(patience, self.stream.read_buf(&mut self.input)).await;
        let Ok(read) = read else { return false };
        assert!(read.unwrap() > 0, "the server ended the connection");
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Some(head) = input.get(at..at + 9) {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let Some(payload) = input.get(at + 9..at + 9 + length) else { break };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            self.hear(&frame);
            each(frame);
            at += 9 + length;
        }
        self.input = input;
        self.input.drain(..at);
        true
    }

    fn hear(&mut self, frame: &Frame<'_>) {
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => put_frame(&mut self.out, SETTINGS, ACK, 0, &[]),
            PING if frame.flags & ACK == 0 => put_frame(&mut self.out, PING, ACK, 0, frame.payload),
            WINDOW_UPDATE if frame.stream == 0 => {
                let more = u32::from_be_bytes(frame.payload.try_into().unwrap());
                self.window += i64::from(more);
            }
            DATA => {
                self.taken += frame.payload.len() as u32;
                if self.taken >= REFILL {
                    put_frame(&mut self.out, WINDOW_UPDATE, 0, 0, &self.taken.to_be_bytes());
                    self.taken = 0;
                }
            }
            RST_STREAM | GOAWAY => panic!("the server refuses: frame {}, {:?}", frame.kind, frame.payload),
            _ => {}
        }
    }

    /// `clients` that each ask again as soon as they are answered, until `until`; `message` makes each request of the
    /// number of its client and how often that asked before. Gives the time that each took, in microseconds.
    pub async fn ask(
        &mut self,
        clients: usize,
        until: Instant,
        mut message: impl FnMut(usize, usize) -> Vec<u8>,
    ) -> Vec<u32> {
        let mut times = Vec::new();
        let mut asked: HashMap<u32, (usize, usize, Instant, bool)> = HashMap::new();
        let mut free: Vec<(usize, usize)> = (0..clients).map(|client| (client, 0)).collect();
        loop {
            while let Some((client, count)) = free.pop() {
                let now = Instant::now();
                if now >= until {
                    continue;
                }
                let message = message(client, count);
                if !self.has_room(message.len()) {
                    free.push((client, count));
                    break;
                }
                asked.insert(self.begin(&message, true), (client, count, now, false));
            }
            if asked.is_empty() {
                return times;
            }
            self.turn(Duration::MAX, |frame| {
                if frame.is_data()
                    && let Some(answer) = asked.get_mut(&frame.stream)
                {
                    answer.3 = true;
                }
                if frame.is_end() {
                    let (client, count, begun, answered) = asked.remove(&frame.stream).unwrap();
                    assert!(answered, "a request failed: its answer has no message");
                    times.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
                    free.push((client, count + 1));
                }
            })
            .await;
        }
    }
}
