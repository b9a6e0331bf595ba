//! One connection to a shim.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::error::Error;
use crate::frame::{Incoming, Outgoing};
use crate::wire::{Op, PROTOCOL_VERSION, Reply, Request, SOCKET};

#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    incoming: Incoming,
}

impl Connection {
    pub(crate) async fn open(dir: &Path) -> Result<Self, Error> {
        let gone = |source| Error::Gone { dir: dir.display().to_string(), source };
        // A socket address holds 107 bytes; through a descriptor of the directory any path fits.
        let folder =
            std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(dir).map_err(gone)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
        let stream = UnixStream::connect(path).await.map_err(gone)?;
        Ok(Self { stream, incoming: Incoming::default() })
    }

    /// Sends a request and waits for its answer; an error answer becomes [`Error::Refused`].
    pub(crate) async fn call(&mut self, doing: &'static str, op: Op) -> Result<(Reply, Vec<OwnedFd>), Error> {
        self.send(&Request { version: PROTOCOL_VERSION, op })
            .await
            .map_err(|source| Error::Connection { doing, source })?;
        self.receive(doing).await
    }

    async fn send(&self, request: &Request) -> io::Result<()> {
        let mut outgoing = Outgoing::new(request, Vec::new())?;
        loop {
            self.stream.writable().await?;
            match self.stream.try_io(Interest::WRITABLE, || outgoing.send(self.stream.as_fd())) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next answer. Safe to drop at its await: nothing that arrived is lost.
    pub(crate) async fn receive(&mut self, doing: &'static str) -> Result<(Reply, Vec<OwnedFd>), Error> {
        let reply = self.receive_reply().await.map_err(|source| Error::Connection { doing, source })?;
        match reply {
            (Reply::Error { kind, message }, _) => Err(Error::Refused { kind, message }),
            other => Ok(other),
        }
    }

    async fn receive_reply(&mut self) -> io::Result<(Reply, Vec<OwnedFd>)> {
        loop {
            if let Some(reply) = self.incoming.next()? {
                return Ok(reply);
            }
            self.stream.readable().await?;
            let (stream, incoming) = (&self.stream, &mut self.incoming);
            match stream.try_io(Interest::READABLE, || incoming.receive(stream.as_fd())) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
