//! A client's connection.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::frame::{Incoming, Outgoing};
use crate::wire::{Reply, Request};

/// The most answers that wait for a client to read; one that is further behind is cut off, and finds everything in
/// the state when it comes again.
const MAX_OUTGOING: usize = 1024;

/// Names a connection.
pub(super) type ConnId = u64;

/// What a connection is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    /// Its request has not come yet.
    New,
    /// Its answer is being worked for.
    Waiting,
    /// It gets events.
    Subscriber,
    /// It lasts as long as a command, whose process this is once it runs.
    Exec(Option<i32>),
    /// It lasts as long as a session; true if that has standard input.
    Attach { id: String, stdin: bool },
}

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) stream: UnixStream,
    pub(super) role: Role,
    /// All is said: close it when it is sent.
    pub(super) closing: bool,
    incoming: Incoming,
    outgoing: VecDeque<Outgoing>,
}

/// What came of reading.
#[derive(Debug)]
pub(super) enum Received {
    Nothing,
    Request(Request),
    /// The other side is gone, or is none of ours.
    Closed,
}

impl Conn {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            role: Role::New,
            closing: false,
            incoming: Incoming::default(),
            outgoing: VecDeque::new(),
        })
    }

    pub(super) fn wants_to_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Reads what there is. One request is all that may come.
    pub(super) fn receive(&mut self) -> Received {
        match self.incoming.receive(self.stream.as_fd()) {
            Ok(0) => Received::Closed,
            Ok(_) if self.role != Role::New => Received::Closed,
            Ok(_) => match self.incoming.next::<Request>() {
                Ok(Some((request, _))) => Received::Request(request),
                Ok(None) => Received::Nothing,
                Err(_) => Received::Closed,
            },
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
            Err(_) => Received::Closed,
        }
    }

    /// Queues an answer; an error means that the connection is of no more use.
    pub(super) fn queue(&mut self, reply: &Reply, fds: Vec<OwnedFd>) -> io::Result<()> {
        if self.outgoing.len() == MAX_OUTGOING {
            return Err(io::Error::other("the client does not read"));
        }
        self.outgoing.push_back(Outgoing::new(reply, fds)?);
        self.flush()
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while let Some(first) = self.outgoing.front_mut() {
            match first.send(self.stream.as_fd()) {
                Ok(true) => drop(self.outgoing.pop_front()),
                Ok(false) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
