//! Waiting for changes of files without polling.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

const BUFFER: usize = 4096;

/// Watches files and folders.
#[derive(Debug)]
pub struct Watch {
    fd: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // SAFETY: the descriptor is owned by the `AsyncFd` and stays open, and the same, until that is dropped.
        Ok(Self { fd: unsafe { AsyncFd::register(fd) }? })
    }

    /// Adds a file: writes and its end.
    pub fn add_file(&self, path: &Path) -> io::Result<()> {
        let flags = WatchFlags::MODIFY | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF | WatchFlags::ATTRIB;
        inotify::add_watch(self.fd.get_ref(), path, flags)?;
        Ok(())
    }

    /// Adds a folder: files that come, go, or are written and closed in it.
    pub fn add_folder(&self, path: &Path) -> io::Result<()> {
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF;
        inotify::add_watch(self.fd.get_ref(), path, flags | WatchFlags::ONLYDIR)?;
        Ok(())
    }

    /// Waits until something has changed since the last call.
    pub async fn changed(&self) -> io::Result<()> {
        let mut guard = self.fd.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
        loop {
            match reader.next() {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    guard.clear_ready();
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
