//! Streams of a command or container, handed over by the shim as descriptors.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::connection::Connection;
use crate::error::Error;
use crate::wire::{ExitStatus, Reply, TerminalSize};

/// A pipe or terminal as an asynchronous stream. Dropping it closes it: for standard input that is its end.
#[derive(Debug)]
pub struct FdStream {
    file: AsyncFd<std::fs::File>,
}

impl FdStream {
    fn new(fd: OwnedFd, interest: Interest) -> Result<Self, Error> {
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(fd.as_fd(), nix::fcntl::FcntlArg::F_SETFL(flags))
            .map_err(io::Error::from)
            .and_then(|_| {
                // SAFETY: a File owns its descriptor and gives the same one until it is dropped.
                Ok(unsafe { AsyncFd::register_with_interest(std::fs::File::from(fd), interest) }?)
            })
            .map(|file| Self { file })
            .map_err(Error::io("take over a stream of the shim"))
    }

    fn reader(fd: OwnedFd) -> Result<Self, Error> {
        Self::new(fd, Interest::READABLE)
    }

    fn writer(fd: OwnedFd) -> Result<Self, Error> {
        Self::new(fd, Interest::WRITABLE)
    }

    /// Reads what is there without waiting; `WouldBlock` if nothing is.
    pub(crate) fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.get_ref().read(buffer)
    }

    fn set_size(&self, size: TerminalSize) -> Result<(), Error> {
        crate::terminal::set_size(self.file.get_ref().as_raw_fd(), size)
            .map_err(Error::io("resize a terminal"))
    }
}

impl AsyncRead for FdStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.file.poll_read_ready(cx))?;
            match guard.try_io(|file| file.get_ref().read(buf.initialize_unfilled())) {
                Ok(Ok(count)) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // A terminal whose other side is closed says EIO where a pipe says end of file.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for FdStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.file.poll_write_ready(cx))?;
            match guard.try_io(|file| file.get_ref().write(bytes)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A running command of [`crate::Shim::exec`]. Dropping the session kills the command; the streams may be moved out
/// of it, and end when the command (and whoever inherited them) closes them.
#[derive(Debug)]
pub struct ExecSession {
    /// Standard input, if asked for.
    pub stdin: Option<FdStream>,
    /// Standard output, or all output of the terminal.
    pub stdout: Option<FdStream>,
    /// Standard error, if asked for and there is no terminal.
    pub stderr: Option<FdStream>,
    /// The command's process in the shim's PID namespace.
    pub pid: i32,
    terminal: Option<FdStream>,
    connection: Connection,
    exit: Option<ExitStatus>,
}

impl ExecSession {
    pub(crate) fn new(
        connection: Connection,
        pid: i32,
        (stdin, stdout, stderr, tty): (bool, bool, bool, bool),
        fds: Vec<OwnedFd>,
    ) -> Result<Self, Error> {
        let mut fds = fds.into_iter();
        if tty {
            return Self::on_terminal(connection, pid, (stdin, stdout), take(&mut fds)?);
        }
        let stdin = stdin.then(|| take(&mut fds)).transpose()?.map(FdStream::writer).transpose()?;
        let stdout = stdout.then(|| take(&mut fds)).transpose()?.map(FdStream::reader).transpose()?;
        let stderr = stderr.then(|| take(&mut fds)).transpose()?.map(FdStream::reader).transpose()?;
        Ok(Self { stdin, stdout, stderr, pid, terminal: None, connection, exit: None })
    }

    /// All streams are the terminal's master, of which there is one.
    fn on_terminal(
        connection: Connection,
        pid: i32,
        (stdin, stdout): (bool, bool),
        master: OwnedFd,
    ) -> Result<Self, Error> {
        let stdin = stdin.then(|| duplicate(&master)).transpose()?.map(FdStream::writer).transpose()?;
        let stdout = stdout.then(|| duplicate(&master)).transpose()?.map(FdStream::reader).transpose()?;
        let terminal = Some(FdStream::writer(master)?);
        Ok(Self { stdin, stdout, stderr: None, pid, terminal, connection, exit: None })
    }

    /// Waits for the command's end. May be called again and be dropped at its await.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        if let Some(exit) = &self.exit {
            return Ok(exit.clone());
        }
        match self.connection.receive("waiting for a command").await? {
            (Reply::Exited(exit), _) => Ok(self.exit.insert(exit).clone()),
            (other, _) => Err(super::unexpected(&other)),
        }
    }

    /// Sets the size of the command's terminal; nothing happens if it has none.
    pub fn resize(&self, size: TerminalSize) -> Result<(), Error> {
        self.terminal.as_ref().map_or(Ok(()), |terminal| terminal.set_size(size))
    }
}

/// The streams of a running container. Each ends when the container closes it or exits, or when this side is so
/// slow for so long that the shim cuts it off.
#[derive(Debug)]
pub struct AttachSession {
    /// Standard input, if asked for and the container has one.
    pub stdin: Option<FdStream>,
    /// Standard output, or all output of the terminal.
    pub stdout: Option<FdStream>,
    /// Standard error, if asked for and there is no terminal.
    pub stderr: Option<FdStream>,
    /// The container has a terminal.
    pub tty: bool,
    /// Tells the shim of the session's end; keep it as long as any of the streams is used.
    pub guard: AttachGuard,
}

/// An attached session lasts until this is dropped. With `stdinOnce` the shim then closes the container's standard
/// input, if the session had it.
#[derive(Debug)]
pub struct AttachGuard {
    _connection: Connection,
}

impl AttachSession {
    pub(crate) fn new(
        connection: Connection,
        tty: bool,
        (stdin, stdout, stderr): (bool, bool, bool),
        fds: Vec<OwnedFd>,
    ) -> Result<Self, Error> {
        let mut fds = fds.into_iter();
        let stdin = stdin.then(|| take(&mut fds)).transpose()?.map(FdStream::writer).transpose()?;
        let stdout = stdout.then(|| take(&mut fds)).transpose()?.map(FdStream::reader).transpose()?;
        let stderr =
            (stderr && !tty).then(|| take(&mut fds)).transpose()?.map(FdStream::reader).transpose()?;
        Ok(Self { stdin, stdout, stderr, tty, guard: AttachGuard { _connection: connection } })
    }
}

fn take(fds: &mut std::vec::IntoIter<OwnedFd>) -> Result<OwnedFd, Error> {
    fds.next().ok_or_else(|| Error::Protocol("a descriptor is missing".to_owned()))
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Error> {
    fd.try_clone().map_err(Error::io("duplicate a terminal"))
}
