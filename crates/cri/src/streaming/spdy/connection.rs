//! Streams of a connection.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::frame::{Incoming, Outgoing, Reader, Writer};

/// How many streams a client may have open at a time, and how many new ones may wait.
const MAX_STREAMS: usize = 512;
const MAX_WAITING: usize = 16;
/// How many pieces of a stream may wait to be read; then the whole connection waits, since SPDY as spoken here has no
/// flow control.
const STREAM_PIECES: usize = 32;
const OUTGOING_FRAMES: usize = 32;
/// How long a client is given to read the rest after we have ended: closing earlier could destroy it on its way.
const LINGER: Duration = Duration::from_secs(5);
const REFUSED_STREAM: u32 = 3;

/// One side of an upgraded connection; gives the streams that the client opens.
pub struct Connection {
    opened: mpsc::Receiver<Stream>,
    /// As long as one of these is there, something may still be sent.
    _frames: mpsc::Sender<Outgoing>,
}

/// A stream that the client opened.
pub struct Stream {
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// What the client sends; ends when the client ends the stream.
    pub data: mpsc::Receiver<Bytes>,
    /// To the client.
    pub writer: StreamWriter,
}

/// The way to the client; the stream is ended when this is dropped.
pub struct StreamWriter {
    id: u32,
    frames: mpsc::Sender<Outgoing>,
    ended: bool,
}

impl Connection {
    /// Serves `io`, and gives the connection and the work that drives it; the work ends when the client is gone, or
    /// when the connection and all its streams have been dropped and the client had time to read.
    pub fn serve<S>(io: S) -> (Self, impl Future<Output = ()>)
    where
        S: AsyncRead + AsyncWrite,
    {
        let (opened_tx, opened) = mpsc::channel(MAX_WAITING);
        let (frames, outgoing) = mpsc::channel(OUTGOING_FRAMES);
        let weak = frames.downgrade();
        let work = async move {
            let (from, to) = tokio::io::split(io);
            let reading = read(Reader::new(from), opened_tx, weak);
            let writing = async {
                let written = write(to, outgoing).await;
                if written.is_ok() {
                    tokio::time::sleep(LINGER).await;
                }
            };
            tokio::select! {
                result = reading => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "SPDY connection ended");
                    }
                }
                () = writing => {}
            }
        };
        (Self { opened, _frames: frames }, work)
    }

    /// The next stream that the client opens; `None` when there will be none any more.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }
}

impl Stream {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl StreamWriter {
    /// Sends a piece; an error means that the connection is gone.
    pub async fn send(&self, data: Bytes) -> io::Result<()> {
        self.frame(Outgoing::Data { id: self.id, data, fin: false }).await
    }

    /// Ends the stream in this direction.
    pub async fn finish(mut self) -> io::Result<()> {
        self.ended = true;
        self.frame(Outgoing::Data { id: self.id, data: Bytes::new(), fin: true }).await
    }

    async fn frame(&self, frame: Outgoing) -> io::Result<()> {
        self.frames.send(frame).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if !self.ended {
            // With a full queue the connection is as good as dead, and its end is the stream's.
            let _ = self.frames.try_send(Outgoing::Data { id: self.id, data: Bytes::new(), fin: true });
        }
    }
}

async fn read<R: AsyncRead + Unpin>(
    mut reader: Reader<R>,
    opened: mpsc::Sender<Stream>,
    frames: mpsc::WeakSender<Outgoing>,
) -> io::Result<()> {
    let mut streams: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    while let Some(frame) = reader.next().await? {
        // After our own end the rest is read and dropped.
        let Some(frames) = frames.upgrade() else { continue };
        match frame {
            Incoming::Open { id, headers, fin } => {
                if streams.len() >= MAX_STREAMS {
                    let _ = frames.send(Outgoing::Reset { id, status: REFUSED_STREAM }).await;
                    continue;
                }
                let (tx, data) = mpsc::channel(STREAM_PIECES);
                if !fin {
                    streams.insert(id, tx);
                }
                let _ = frames.send(Outgoing::Reply { id }).await;
                let writer = StreamWriter { id, frames, ended: false };
                if opened.send(Stream { headers, data, writer }).await.is_err() {
                    streams.remove(&id);
                }
            }
            Incoming::Data { id, data, fin } => {
                if let Some(to) = streams.get(&id)
                    && !data.is_empty()
                    && to.send(data).await.is_err()
                {
                    streams.remove(&id);
                }
                if fin {
                    streams.remove(&id);
                }
            }
            Incoming::Reset { id } => {
                streams.remove(&id);
            }
            Incoming::Ping { id } => {
                let _ = frames.send(Outgoing::Ping { id }).await;
            }
            Incoming::GoAway | Incoming::Other => {}
        }
    }
    Ok(())
}

async fn write<W: AsyncWrite + Unpin>(mut to: W, mut frames: mpsc::Receiver<Outgoing>) -> io::Result<()> {
    let mut writer = Writer::new()?;
    while let Some(frame) = frames.recv().await {
        let head = writer.encode(&frame)?;
        to.write_all(&head).await?;
        if let Outgoing::Data { data, .. } = &frame {
            to.write_all(data).await?;
        }
        to.flush().await?;
    }
    to.shutdown().await
}
