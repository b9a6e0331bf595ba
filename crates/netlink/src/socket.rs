//! A netlink socket: requests, answers, batches.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::message::{Attrs, Encoder, HEADER};

pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

const MSG_ERROR: u16 = 2;
const MSG_DONE: u16 = 3;
const FLAG_DUMP_INTERRUPTED: u16 = 0x10;
const FLAG_CAPPED: u16 = 0x100;
const ERROR_ATTR_MESSAGE: u16 = 1;

/// How long the kernel may take for one answer. It answers in milliseconds; this is against waiting for ever.
const ANSWER_TIMEOUT_S: i64 = 30;
/// How often a dump is begun anew because the kernel's tables changed meanwhile.
const DUMP_ATTEMPTS: usize = 20;
/// Room for what is sent at once, and for answers: a full resync of ten thousand services is below it.
const BUFFER_BYTES: libc::c_int = 64 << 20;
const RECEIVE_BYTES: usize = 64 << 10;

/// Why the kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket itself failed.
    #[error("netlink {operation}")]
    Socket {
        /// What was done with it.
        operation: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("{what}: {source}{}", detail(.message))]
    Refused {
        /// What was asked for.
        what: String,
        /// The kernel's number for the reason.
        source: io::Error,
        /// The kernel's words, if it had any.
        message: String,
    },
    /// The tables changed during every attempt to read them.
    #[error("{0}: the kernel's tables kept changing while they were read")]
    Unsteady(String),
    /// A network namespace could not be entered.
    #[error("network namespace {path}")]
    Netns {
        /// Where it should be.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

impl Error {
    /// The kernel's error number, if it refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Socket { source, .. } | Self::Netns { source, .. } => {
                source.raw_os_error()
            }
            Self::Unsteady(_) => None,
        }
    }

    /// Whether the thing asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL))
    }

    /// Whether the thing to be made is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }
}

/// Which part of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// nf_tables and tracked connections.
    Netfilter,
}

/// A socket; it belongs to the network namespace in which it was opened, wherever it is used.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
}

fn failed(operation: &'static str) -> Error {
    Error::Socket { operation, source: io::Error::last_os_error() }
}

impl Socket {
    /// Opens a socket in this thread's network namespace.
    pub fn open(protocol: Protocol) -> Result<Self, Error> {
        let number = match protocol {
            Protocol::Route => libc::NETLINK_ROUTE,
            Protocol::Netfilter => libc::NETLINK_NETFILTER,
        };
        // SAFETY: socket() takes no pointers, and its result is owned by nobody else.
        let fd = unsafe {
            let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, number);
            if fd < 0 {
                return Err(failed("socket"));
            }
            OwnedFd::from_raw_fd(fd)
        };
        let this = Self { fd, seq: 0 };
        // Without the kernel's words, or with small buffers, it works all the same.
        let _ = this.option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &1_i32.to_ne_bytes());
        let _ = this.option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &1_i32.to_ne_bytes());
        for name in [libc::SO_SNDBUFFORCE, libc::SO_RCVBUFFORCE] {
            let _ = this.option(libc::SOL_SOCKET, name, &BUFFER_BYTES.to_ne_bytes());
        }
        let timeout = [ANSWER_TIMEOUT_S.to_ne_bytes(), 0_i64.to_ne_bytes()].concat();
        this.option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeout)?;
        Ok(this)
    }

    fn option(&self, level: libc::c_int, name: libc::c_int, value: &[u8]) -> Result<(), Error> {
        // SAFETY: the pointer and the length are those of `value`, which the kernel copies.
        let done = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                value.as_ptr().cast(),
                value.len() as libc::socklen_t,
            )
        };
        if done == 0 { Ok(()) } else { Err(failed("setsockopt")) }
    }

    pub(crate) fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        // SAFETY: the pointer and the length are those of `bytes`.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent == bytes.len() as isize { Ok(()) } else { Err(failed("send")) }
    }

    fn receive(&self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        buffer.resize(RECEIVE_BYTES, 0);
        // SAFETY: the pointer and the length are those of `buffer`.
        let got = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if got < 0 {
            return Err(failed("receive"));
        }
        buffer.truncate(got as usize);
        Ok(())
    }

    /// Sends one request and waits until the kernel has done it; `what` says in errors what it was. Gives the payloads
    /// of what the kernel answered with, without netlink headers.
    pub fn request(
        &mut self,
        what: &str,
        kind: u16,
        flags: u16,
        fill: impl FnOnce(&mut Encoder),
    ) -> Result<Vec<Vec<u8>>, Error> {
        let seq = self.next_seq();
        let mut encoder = Encoder::new();
        encoder.begin(kind, flags | REQUEST | ACK, seq);
        fill(&mut encoder);
        encoder.end();
        self.send(encoder.bytes())?;
        self.answers(what, seq).map(|(answers, _)| answers)
    }

    /// Asks for all things of a kind.
    pub fn dump(
        &mut self,
        what: &str,
        kind: u16,
        fill: impl Fn(&mut Encoder),
    ) -> Result<Vec<Vec<u8>>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let seq = self.next_seq();
            let mut encoder = Encoder::new();
            encoder.begin(kind, REQUEST | DUMP, seq);
            fill(&mut encoder);
            encoder.end();
            self.send(encoder.bytes())?;
            let (answers, interrupted) = self.answers(what, seq)?;
            if !interrupted {
                return Ok(answers);
            }
        }
        Err(Error::Unsteady(what.to_owned()))
    }

    fn answers(&mut self, what: &str, seq: u32) -> Result<(Vec<Vec<u8>>, bool), Error> {
        let (mut answers, mut interrupted, mut buffer) = (Vec::new(), false, Vec::new());
        loop {
            self.receive(&mut buffer)?;
            for message in Messages(&buffer).filter(|message| message.seq == seq) {
                interrupted |= message.flags & FLAG_DUMP_INTERRUPTED != 0;
                match message.kind {
                    MSG_ERROR | MSG_DONE => {
                        message.refusal(what)?;
                        return Ok((answers, interrupted));
                    }
                    _ => answers.push(message.payload.to_vec()),
                }
            }
        }
    }

    /// Sends a batch whose first message has number `first` and whose last but one has `last` and asks for an
    /// acknowledgement. The first refusal, if there is any; `what` names the messages by number.
    pub(crate) fn batch(
        &mut self,
        bytes: &[u8],
        first: u32,
        last: u32,
        what: impl Fn(u32) -> String,
    ) -> Result<(), Error> {
        self.send(bytes)?;
        let (mut refused, mut buffer) = (None, Vec::new());
        loop {
            self.receive(&mut buffer)?;
            for message in Messages(&buffer).filter(|message| (first..=last).contains(&message.seq)) {
                let Err(error) = message.refusal(&what(message.seq)) else {
                    if message.seq == last {
                        return refused.map_or(Ok(()), Err);
                    }
                    continue;
                };
                let ends = message.seq == last || message.seq == first;
                refused.get_or_insert(error);
                if ends {
                    return refused.map_or(Ok(()), Err);
                }
            }
        }
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    seq: u32,
    payload: &'a [u8],
}

impl Message<'_> {
    /// The refusal that an error message tells, or an acknowledgement.
    fn refusal(&self, what: &str) -> Result<(), Error> {
        let Some(code) = self.payload.get(..4).and_then(|code| code.try_into().ok()) else { return Ok(()) };
        let code = i32::from_ne_bytes(code);
        if code >= 0 {
            return Ok(());
        }
        // With the cap the refused message is given by its header alone.
        let skip = 4 + if self.flags & FLAG_CAPPED != 0 { HEADER } else { self.payload.len() };
        let message = Attrs(self.payload.get(skip..).unwrap_or_default()).str(ERROR_ATTR_MESSAGE);
        Err(Error::Refused {
            what: what.to_owned(),
            source: io::Error::from_raw_os_error(-code),
            message: message.unwrap_or_default().to_owned(),
        })
    }
}

struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let head = self.0.get(..HEADER)?;
        let u32_at = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let u16_at = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let length = u32_at(0) as usize;
        let message = Message {
            kind: u16_at(4),
            flags: u16_at(6),
            seq: u32_at(8),
            payload: self.0.get(HEADER..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}
