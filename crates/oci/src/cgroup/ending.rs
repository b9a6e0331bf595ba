//! Signals to whole groups, and their removal.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::{Cgroup, Version, children, is_gone, v2, write_raw};
use crate::error::{Context, Error, Result};
use crate::sys;

/// How often the group is read and killed again: each round misses only what was forked during it, and rounds freeze
/// the group where they can.
const KILL_ROUNDS: u32 = 20;
/// How long killed processes of one round may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an empty group may refuse to be removed: the kernel finishes the end of its last task after the process
/// itself is gone.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The first pause between attempts at removal; it doubles.
const REMOVE_RETRY: Duration = Duration::from_millis(1);

pub(super) fn signal_all(cgroup: &Cgroup, signal: i32) -> Result<()> {
    if signal == libc::SIGKILL && kill_file(cgroup) {
        return Ok(());
    }
    // Frozen, nothing can fork away between the list and the signal. Not everywhere is there a freezer, and a group
    // that the user froze must stay frozen.
    let was_frozen = cgroup.is_frozen();
    let froze = !was_frozen && cgroup.freeze(true).is_ok();
    let result = cgroup.processes().map(|pids| pids.iter().for_each(|pid| send(*pid, signal)));
    if froze || (was_frozen && signal == libc::SIGKILL) {
        cgroup.freeze(false)?;
    }
    result
}

/// A process may have ended meanwhile, which is as good.
fn send(pid: i32, signal: i32) {
    // SAFETY: takes numbers only.
    unsafe { libc::kill(pid, signal) };
}

/// `cgroup.kill`, since Linux 5.14; false if there is none.
fn kill_file(cgroup: &Cgroup) -> bool {
    cgroup.version() == Version::V2
        && cgroup.dir("").is_some_and(|dir| write_raw(&dir.join("cgroup.kill"), "1").is_ok())
}

pub(super) fn kill_all(cgroup: &Cgroup) -> Result<()> {
    for _ in 0..KILL_ROUNDS {
        // Opened before the signal, so that a number used again is not waited for.
        let pids = cgroup.processes()?;
        if pids.is_empty() {
            return Ok(());
        }
        let open: Vec<OwnedFd> = pids.iter().filter_map(|pid| sys::pidfd_open(*pid).ok()).collect();
        signal_all(cgroup, libc::SIGKILL)?;
        wait_for_ends(&open)?;
        if cgroup.version() == Version::V2
            && let Some(dir) = cgroup.dir("").filter(|dir| dir.exists())
        {
            let empty = |events: &str| events.lines().any(|line| line == "populated 0");
            v2::wait_for_event(&dir, KILL_TIMEOUT, empty)?;
        }
    }
    match cgroup.processes()?.as_slice() {
        [] => Ok(()),
        left => Err(Error::State(format!("processes {left:?} cannot be killed"))),
    }
}

fn wait_for_ends(open: &[OwnedFd]) -> Result<()> {
    let deadline = Instant::now() + KILL_TIMEOUT;
    for process in open {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match nix::poll::poll(&mut fds, limit) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e).doing(|| "wait for killed processes".to_owned()),
        }
    }
    Ok(())
}

pub(super) fn remove(cgroup: &Cgroup) -> Result<()> {
    let mut dirs: Vec<_> = cgroup.dirs().into_iter().map(|(_, dir)| dir).collect();
    // Controllers mounted together share a directory.
    dirs.dedup();
    for dir in dirs {
        remove_tree(&dir)?;
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> Result<()> {
    for child in children(dir) {
        remove_tree(&child)?;
    }
    let deadline = Instant::now() + REMOVE_TIMEOUT;
    let mut pause = REMOVE_RETRY;
    loop {
        match std::fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if is_gone(&e) => return Ok(()),
            // Version 1 tells nobody when a group has become empty, so trying again is all there is.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                std::thread::sleep(pause);
                pause *= 2;
            }
            Err(e) => return Err(e).doing(|| format!("remove cgroup {}", dir.display())),
        }
    }
}
