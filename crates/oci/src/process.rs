//! Processes by number, and how not to mistake one for another that got its number later.

use std::os::fd::OwnedFd;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{Context, Result};
use crate::sys;

/// A process, known by number and time of birth. State may lie on a disk, so the machine's start is part of it: small
/// machines give the same number at the same time after every start.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The number.
    pub pid: i32,
    /// In ticks since the machine's start.
    pub started_ticks: u64,
    /// Which start of the machine that was.
    pub boot_id: String,
}

impl Identity {
    /// That of a running process.
    pub fn of(pid: i32) -> Option<Self> {
        read_stat(pid).map(|(_, started_ticks)| Self { pid, started_ticks, boot_id: boot_id() })
    }

    /// True until it has ended, even if nobody has waited for it.
    pub fn is_alive(&self) -> bool {
        let same = |(state, start)| start == self.started_ticks && !matches!(state, 'Z' | 'X');
        read_stat(self.pid).is_some_and(same) && self.boot_id == boot_id()
    }

    /// A descriptor of exactly this process; `None` if it has ended.
    pub fn open(&self) -> Option<OwnedFd> {
        let fd = sys::pidfd_open(self.pid).ok()?;
        self.is_alive().then_some(fd)
    }
}

/// The kernel's name for this start of the machine.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// State letter and time of birth.
fn read_stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have any characters.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Forks. In the child `run` is called and the process ends with what it returns, without the parent's destructors.
pub fn fork(run: impl FnOnce() -> i32) -> Result<i32> {
    // SAFETY: this process has one thread (the crate's condition), so the child may do anything.
    match unsafe { nix::unistd::fork() }.doing(|| "fork".to_owned())? {
        nix::unistd::ForkResult::Parent { child } => Ok(child.as_raw()),
        nix::unistd::ForkResult::Child => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or(1);
            // SAFETY: ends the process.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Forks a child into a PID namespace: a new one, one that is open, or (`None`) our own.
pub fn fork_into(pid_namespace: Option<PidNamespace<'_>>, run: impl FnOnce() -> i32) -> Result<i32> {
    use nix::sched::{CloneFlags, setns, unshare};
    let Some(namespace) = pid_namespace else { return fork(run) };
    let own = std::fs::File::open("/proc/self/ns/pid").doing(|| "open the PID namespace".to_owned())?;
    match namespace {
        PidNamespace::New => unshare(CloneFlags::CLONE_NEWPID).doing(|| "make a PID namespace".to_owned())?,
        PidNamespace::Join(file) => {
            setns(file, CloneFlags::CLONE_NEWPID).doing(|| "join the PID namespace".to_owned())?;
        }
    }
    let child = fork(run);
    // Hooks, which we may still fork, belong outside.
    setns(&own, CloneFlags::CLONE_NEWPID).doing(|| "return to the PID namespace".to_owned())?;
    child
}

/// Where a child's number is to be from.
#[derive(Debug)]
pub enum PidNamespace<'a> {
    /// It is the first process of a new one.
    New,
    /// One that is open.
    Join(&'a OwnedFd),
}

/// Waits for a child's end; its exit code, or 128 + signal.
pub fn wait_for(pid: i32) -> Result<i32> {
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e).doing(|| format!("wait for process {pid}")),
        }
    }
}

/// Kills a child and waits for its end.
pub fn kill_child(pid: i32) {
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    let _ = wait_for(pid);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_used_again_is_another_process() {
        let own = Identity::of(std::process::id() as i32).unwrap();
        assert!(own.is_alive());
        assert!(!Identity { started_ticks: own.started_ticks + 1, ..own.clone() }.is_alive());
        assert!(!Identity { boot_id: "another".to_owned(), ..own }.is_alive());
    }
}
