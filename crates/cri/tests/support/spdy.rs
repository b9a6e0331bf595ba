//! The client's side of SPDY/3.1, as little of it as the tests need.

use std::collections::HashMap;

use flate2::{Compress, Compression, FlushCompress};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection on which streams can be opened; what comes back is collected by stream.
pub struct Client<S> {
    io: S,
    zlib: Compress,
    next_id: u32,
    pub received: HashMap<u32, Vec<u8>>,
    pub ended: Vec<u32>,
}

/// Upgrades a connection to a stream's address; the protocol that the server chose.
pub async fn upgrade(url: &str, protocols: &[&str]) -> (Client<TcpStream>, String) {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut io = TcpStream::connect(address).await.unwrap();
    let mut head =
        format!("POST /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n");
    for protocol in protocols {
        head += &format!("X-Stream-Protocol-Version: {protocol}\r\n");
    }
    io.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(io.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    let chosen = answer.lines().find_map(|l| l.strip_prefix("x-stream-protocol-version: "));
    (Client::new(io), chosen.unwrap_or_default().to_owned())
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(io: S) -> Self {
        let zlib = Compress::new(Compression::fast(), true);
        Self { io, zlib, next_id: 1, received: HashMap::new(), ended: Vec::new() }
    }

    /// Opens a stream with headers; its number.
    pub async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let mut block = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend((text.len() as u32).to_be_bytes());
            block.extend(text.as_bytes());
        }
        let mut packed = Vec::with_capacity(4096);
        self.zlib.compress_vec(&block, &mut packed, FlushCompress::Sync).unwrap();
        let id = self.next_id;
        self.next_id += 2;
        let mut frame = vec![0x80, 3, 0, 1];
        frame.extend((10 + packed.len() as u32).to_be_bytes());
        frame.extend(id.to_be_bytes());
        frame.extend([0; 6]);
        frame.extend(packed);
        self.io.write_all(&frame).await.unwrap();
        id
    }

    pub async fn send(&mut self, id: u32, data: &[u8], last: bool) {
        let mut frame = id.to_be_bytes().to_vec();
        frame.extend((u32::from(last) << 24 | data.len() as u32).to_be_bytes());
        frame.extend(data);
        self.io.write_all(&frame).await.unwrap();
    }

    /// Reads until `enough`, or the connection's end.
    pub async fn read_until(&mut self, enough: impl Fn(&Self) -> bool) {
        while !enough(self) {
            let mut head = [0; 8];
            if self.io.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
            let mut body = vec![0; length];
            self.io.read_exact(&mut body).await.unwrap();
            if head[0] & 0x80 == 0 {
                let id = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
                self.received.entry(id).or_default().extend(body);
                if head[4] & 1 != 0 {
                    self.ended.push(id);
                }
            }
        }
    }

    pub fn text(&self, id: u32) -> String {
        String::from_utf8_lossy(self.received.get(&id).map(Vec::as_slice).unwrap_or_default()).into_owned()
    }
}
