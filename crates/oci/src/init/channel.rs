//! Messages between the runtime and the process that it forked.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// The longest message; an error's text is cut to fit.
const MAX_MESSAGE: usize = 16 << 10;

/// One end of a pair. Closed at exec, which the other end sees.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromInit {
    /// All is mounted, the old root still visible: the time for hooks.
    Mounted,
    /// Waiting to be started.
    Ready,
    /// It is over.
    Failed(String),
}

/// What the runtime says.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToInit {
    /// The cgroup is right.
    Go,
    /// The hooks have run.
    Continue,
}

/// A new pair.
pub fn channel() -> Result<(Channel, Channel)> {
    let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .doing(|| "make a socket pair".to_owned())?;
    Ok((Channel(a), Channel(b)))
}

impl Channel {
    /// Sends one message.
    pub fn send(&self, message: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec(message).map_err(|e| Error::Invalid(e.to_string()))?;
        send(self.0.as_raw_fd(), &text, MsgFlags::MSG_NOSIGNAL)
            .doing(|| "tell the other process".to_owned())?;
        Ok(())
    }

    /// The next message; `None` when the other end is closed.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let count = loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(nix::Error::EINTR) => {}
                // What the other end had not read when it closed.
                Err(nix::Error::ECONNRESET) => break 0,
                other => break other.doing(|| "hear from the other process".to_owned())?,
            }
        };
        if count == 0 {
            return Ok(None);
        }
        serde_json::from_slice(&buffer[..count]).map(Some).map_err(|e| Error::Invalid(e.to_string()))
    }

    /// Gives the descriptor up in a child that inherited the runtime's end: while it were open there, the child would
    /// never see the runtime's death.
    pub fn close(&self) {
        // The descriptor's number is put on the null device rather than freed, so that its owner may still close it.
        if let Ok(null) = std::fs::File::open("/dev/null") {
            // SAFETY: takes numbers only; the replaced descriptor is ours.
            unsafe { libc::dup3(null.as_raw_fd(), self.0.as_raw_fd(), libc::O_CLOEXEC) };
        }
    }

    /// Tells the runtime of a failure. If it is gone nobody is left to tell.
    pub(super) fn report(&self, error: &Error) {
        let mut text = error.to_string();
        text.truncate(text.floor_char_boundary(MAX_MESSAGE / 4));
        let _ = self.send(&FromInit::Failed(text));
    }
}
