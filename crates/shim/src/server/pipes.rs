//! Pipes, and terminals from a console socket.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::frame;

/// A pipe; our end does not block.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) reader: OwnedFd,
    pub(super) writer: OwnedFd,
}

impl Pipe {
    /// Both ends block.
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        Ok(Self { reader, writer })
    }
}

/// Reads and writes of this description give up instead of waiting.
pub(super) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// The null device, for what is not connected.
pub(super) fn null() -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open("/dev/null")?.into())
}

/// Where a runtime sends a terminal's master.
#[derive(Debug)]
pub(super) struct ConsoleSocket {
    listener: UnixListener,
    /// For the runtime: through our descriptor of the directory, since a socket address holds only 107 bytes.
    pub(super) path: PathBuf,
    _dir: File,
}

impl ConsoleSocket {
    /// Listens in `dir`, under a name that must not be in use.
    pub(super) fn new(dir: &Path, name: &str) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let folder = File::options().read(true).custom_flags(libc::O_PATH).open(dir)?;
        let path = PathBuf::from(format!("/proc/{}/fd/{}/{name}", std::process::id(), folder.as_raw_fd()));
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path, _dir: folder })
    }

    /// The master that was sent, after the runtime has ended well: it is in the socket's queue.
    pub(super) fn take_master(self) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        frame::receive_one_fd(stream.as_fd())
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
