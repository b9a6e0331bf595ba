//! The lock of a data directory: held by the server that runs on it, with its process id inside.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::layout::Layout;

/// Held until it is dropped.
pub struct Lock {
    _file: Flock<File>,
}

/// Takes the lock, with our process id, or says who has it.
pub fn acquire(layout: &Layout) -> anyhow::Result<Lock> {
    match try_lock(layout, FlockArg::LockExclusiveNonblock)? {
        Ok(lock) => Ok(lock),
        Err(pid) => bail!("a server (process {pid}) runs on {} already", layout.data().display()),
    }
}

/// The process id of the server that runs on the data directory, if one does.
pub fn holder(layout: &Layout) -> anyhow::Result<Option<i32>> {
    if !layout.lock().exists() {
        return Ok(None);
    }
    let file = open(layout)?;
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_free) => Ok(None),
        Err((mut file, _)) => Ok(Some(read_pid(&mut file))),
    }
}

/// Waits until nobody has the lock and takes it.
pub fn wait(layout: &Layout) -> anyhow::Result<Lock> {
    match try_lock(layout, FlockArg::LockExclusive)? {
        Ok(lock) => Ok(lock),
        Err(pid) => bail!("process {pid} keeps the lock of {}", layout.data().display()),
    }
}

fn try_lock(layout: &Layout, how: FlockArg) -> anyhow::Result<Result<Lock, i32>> {
    let file = open(layout)?;
    match Flock::lock(file, how) {
        Ok(mut file) => {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())?;
            Ok(Ok(Lock { _file: file }))
        }
        Err((mut file, _)) => Ok(Err(read_pid(&mut file))),
    }
}

fn open(layout: &Layout) -> anyhow::Result<File> {
    let path = layout.lock();
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))
}

fn read_pid(file: &mut File) -> i32 {
    let mut text = String::new();
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    text.trim().parse().unwrap_or(0)
}
