//! Frames on a unix stream socket: a header of two little-endian words (length of the body, number of descriptors),
//! then the body, JSON. The descriptors travel with the frame's first byte.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest body: an exec request with a large environment, or the state of a pod with many containers.
pub(crate) const MAX_BODY: usize = 8 << 20;
/// The most descriptors in a frame.
pub(crate) const MAX_FDS: usize = 3;
const HEADER: usize = 8;
const READ_CHUNK: usize = 16 << 10;

/// A frame to be sent, and how much of it is.
#[derive(Debug)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl Outgoing {
    pub(crate) fn new(message: &impl Serialize, fds: Vec<OwnedFd>) -> io::Result<Self> {
        let mut bytes = vec![0; HEADER];
        serde_json::to_writer(&mut bytes, message)?;
        let body = bytes.len() - HEADER;
        if body > MAX_BODY || fds.len() > MAX_FDS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "message too large for the shim's protocol",
            ));
        }
        bytes[..4].copy_from_slice(&(body as u32).to_le_bytes());
        bytes[4..HEADER].copy_from_slice(&(fds.len() as u32).to_le_bytes());
        Ok(Self { bytes, sent: 0, fds })
    }

    /// Sends what the socket takes; true when all is sent. `WouldBlock` when it takes nothing.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        let raw: Vec<RawFd> = self.fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if self.sent == 0 && !raw.is_empty() { &rights } else { &[] };
        let iov = [IoSlice::new(&self.bytes[self.sent..])];
        let flags = MsgFlags::MSG_NOSIGNAL;
        let sent = retry(|| sendmsg::<UnixAddr>(socket.as_raw_fd(), &iov, control, flags, None))?;
        self.sent += sent;
        if sent > 0 {
            self.fds.clear();
        }
        Ok(self.sent == self.bytes.len())
    }
}

/// What has arrived and is not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Incoming {
    /// Reads once; 0 is the end of the stream.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let start = self.bytes.len();
        self.bytes.resize(start + READ_CHUNK, 0);
        let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
        let result = {
            let mut iov = [IoSliceMut::new(&mut self.bytes[start..])];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            receive_once(socket.as_raw_fd(), &mut iov, &mut control, flags, &mut self.fds)
        };
        self.bytes.truncate(start + *result.as_ref().unwrap_or(&0));
        result
    }

    /// The next whole message and its descriptors.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let body = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let fds = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if body > MAX_BODY || fds > MAX_FDS {
            return Err(bad_frame("a frame beyond the protocol's bounds"));
        }
        if self.bytes.len() < HEADER + body {
            return Ok(None);
        }
        if self.fds.len() < fds {
            return Err(bad_frame("a frame without its descriptors"));
        }
        let message = serde_json::from_slice(&self.bytes[HEADER..HEADER + body])?;
        self.bytes.drain(..HEADER + body);
        Ok(Some((message, self.fds.drain(..fds).collect())))
    }
}

fn receive_once(
    socket: RawFd,
    iov: &mut [IoSliceMut<'_>],
    control: &mut [u8],
    flags: MsgFlags,
    fds: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    loop {
        match recvmsg::<UnixAddr>(socket, iov, Some(control), flags) {
            Ok(message) => {
                for item in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(received) = item {
                        // SAFETY: the kernel has just made these descriptors for us.
                        fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                    }
                }
                return Ok(message.bytes);
            }
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn bad_frame(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(nix::Error::EINTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

/// Reads the one descriptor that a runtime sends through a console socket.
pub(crate) fn receive_one_fd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut byte = [0; 64];
    let mut fds = VecDeque::new();
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut iov = [IoSliceMut::new(&mut byte)];
    receive_once(socket.as_raw_fd(), &mut iov, &mut control, MsgFlags::MSG_CMSG_CLOEXEC, &mut fds)?;
    fds.pop_front().ok_or_else(|| bad_frame("a console socket's message without a terminal"))
}
