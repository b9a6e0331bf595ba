//! A container's output: from its pipe or terminal to the log, and to everyone who is attached.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::conn::ConnId;
use super::log_file::{Lines, LogFile, Source};

/// What is kept for a client that reads slower than the container writes, before the container has to wait for it.
const MAX_BACKLOG: usize = 256 << 10;
/// How long the container waits for a client that reads nothing at all, before the client is cut off.
const STALL_LIMIT: Duration = Duration::from_secs(10);
/// Read at once.
const CHUNK: usize = 64 << 10;
/// Chunks that are still read when a container has ended; it can have left a pipe's worth, and something else may
/// have the pipe and write for ever.
const MAX_LAST_CHUNKS: usize = 64;

/// One output stream.
#[derive(Debug)]
pub(super) struct Output {
    /// `None` after its end.
    pub(super) source: Option<OwnedFd>,
    pub(super) kind: Source,
    lines: Lines,
    clients: Vec<Client>,
}

/// Someone attached.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) conn: ConnId,
    pub(super) pipe: OwnedFd,
    backlog: VecDeque<u8>,
    /// Since when nothing could be written.
    stalled: Option<Instant>,
}

impl Output {
    /// The source must not block.
    pub(super) fn new(source: OwnedFd, kind: Source) -> Self {
        Self { source: Some(source), kind, lines: Lines::new(kind), clients: Vec::new() }
    }

    /// Adds a client; its pipe must not block.
    pub(super) fn attach(&mut self, conn: ConnId, pipe: OwnedFd) {
        // After the end there is nothing to come; dropping the pipe says so.
        if self.source.is_some() {
            self.clients.push(Client { conn, pipe, backlog: VecDeque::new(), stalled: None });
        }
    }

    pub(super) fn detach(&mut self, conn: ConnId) {
        self.clients.retain(|client| client.conn != conn);
    }

    pub(super) fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// True while the container has to wait for a client.
    pub(super) fn is_paused(&self) -> bool {
        self.clients.iter().any(|client| client.backlog.len() >= MAX_BACKLOG)
    }

    /// When the next client is to be cut off.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.clients.iter().filter_map(|client| client.stalled).min().map(|since| since + STALL_LIMIT)
    }

    /// Cuts off clients that read nothing for too long.
    pub(super) fn cut_stalled(&mut self, now: Instant) {
        self.clients.retain(|client| client.stalled.is_none_or(|since| now < since + STALL_LIMIT));
    }

    /// Reads once and passes on; true if there may be more.
    pub(super) fn pump(&mut self, mut log: Option<&mut LogFile>) -> bool {
        let Some(source) = &self.source else { return false };
        let mut chunk = vec![0; CHUNK];
        match nix::unistd::read(source, &mut chunk) {
            Ok(count @ 1..) => {
                self.lines.push(&chunk[..count], log);
                self.clients.retain_mut(|client| client.send(&chunk[..count]));
                true
            }
            Err(nix::Error::EAGAIN) => false,
            Err(nix::Error::EINTR) => true,
            // A terminal's end is EIO.
            Ok(_) | Err(_) => {
                self.source = None;
                self.lines.finish(log.take());
                self.clients.retain_mut(|client| client.flush() && !client.backlog.is_empty());
                false
            }
        }
    }

    /// Reads what an ended container has left.
    pub(super) fn drain(&mut self, mut log: Option<&mut LogFile>) {
        for _ in 0..MAX_LAST_CHUNKS {
            if !self.pump(log.as_deref_mut()) {
                return;
            }
        }
    }

    /// A client's pipe takes more, or is closed.
    pub(super) fn client_ready(&mut self, conn: ConnId, closed: bool) {
        let ended = self.source.is_none();
        self.clients.retain_mut(|client| {
            client.conn != conn || (!closed && client.flush() && !(ended && client.backlog.is_empty()))
        });
    }
}

impl Client {
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        self.backlog.extend(bytes);
        self.flush()
    }

    /// Writes what the pipe takes; false if nobody reads it any more.
    fn flush(&mut self) -> bool {
        while !self.backlog.is_empty() {
            let (first, _) = self.backlog.as_slices();
            match nix::unistd::write(self.pipe.as_fd(), first) {
                Ok(count) => {
                    self.backlog.drain(..count);
                    self.stalled = None;
                }
                Err(nix::Error::EAGAIN) => {
                    self.stalled = self.stalled.or_else(|| Some(Instant::now()));
                    return true;
                }
                Err(nix::Error::EINTR) => {}
                Err(_) => return false,
            }
        }
        self.stalled = None;
        true
    }
}

/// A pipe for a client: the end that it gets, and ours.
pub(super) fn client_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let pipe = super::pipes::Pipe::new()?;
    super::pipes::set_nonblocking(&pipe.writer)?;
    Ok((pipe.reader, pipe.writer))
}
