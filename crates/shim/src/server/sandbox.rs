//! The sandbox's namespaces. IPC and UTS are the shim's own; a shared PID namespace has a first process that is our
//! child, reaps orphans, and dies with us.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2, pivot_root};

use crate::wire::ShimConfig;

/// What the shim holds for its pod.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// Files for containers to join, by kind.
    pub(super) ipc: Option<PathBuf>,
    pub(super) uts: Option<PathBuf>,
    pub(super) pid: Option<PathBuf>,
    /// The first process of the shared PID namespace.
    pub(super) init: Option<i32>,
}

impl Sandbox {
    /// Makes them all.
    pub(super) fn make(dir: &Path, config: &ShimConfig) -> Result<Self, String> {
        let mut flags = CloneFlags::empty();
        flags.set(CloneFlags::CLONE_NEWIPC, config.ipc);
        flags.set(CloneFlags::CLONE_NEWUTS, config.hostname.is_some());
        unshare(flags).map_err(|e| format!("make the sandbox's namespaces: {e}"))?;
        if let Some(name) = &config.hostname {
            nix::unistd::sethostname(name).map_err(|e| format!("set the host name {name:?}: {e}"))?;
        }
        if !config.sysctls.is_empty() {
            set_sysctls(config)?;
        }
        let own = |is_own: bool, kind: &str| is_own.then(|| namespace_file(std::process::id() as i32, kind));
        let init = config.shared_pid.then(|| start_init(dir)).transpose()?;
        Ok(Self {
            ipc: own(config.ipc, "ipc"),
            uts: own(config.hostname.is_some(), "uts"),
            pid: init.map(|pid| namespace_file(pid, "pid")),
            init,
        })
    }
}

fn namespace_file(pid: i32, kind: &str) -> PathBuf {
    format!("/proc/{pid}/ns/{kind}").into()
}

/// In a child, because the network namespace is to be entered for it and we stay out of that. `/proc/sys` shows every
/// process the values of its own namespaces.
fn set_sysctls(config: &ShimConfig) -> Result<(), String> {
    let write = || -> Result<(), String> {
        if let Some(path) = &config.netns {
            let file = File::open(path).map_err(|e| format!("open {}: {e}", path.display()))?;
            setns(&file, CloneFlags::CLONE_NEWNET).map_err(|e| format!("join {}: {e}", path.display()))?;
        }
        for (name, value) in &config.sysctls {
            let path = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
            if path.split('/').any(|part| part == "..") {
                return Err(format!("sysctl {name:?}"));
            }
            std::fs::write(Path::new("/proc/sys").join(path), value)
                .map_err(|e| format!("set sysctl {name} to {value:?}: {e}"))?;
        }
        Ok(())
    };
    in_child(write).map(drop)
}

/// Runs `work` in a child, and waits for its end; its error is ours.
fn in_child(work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let (reader, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| format!("make a pipe: {e}"))?;
    // SAFETY: the process has one thread (the condition of `main`), so the child may do anything.
    match unsafe { fork() }.map_err(|e| format!("fork: {e}"))? {
        ForkResult::Child => {
            let text = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
                .unwrap_or_else(|_| Err("panicked".to_owned()))
                .err()
                .unwrap_or_default();
            let _ = File::from(writer).write_all(text.as_bytes());
            // SAFETY: ends the process, without the parent's destructors.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut text = String::new();
            File::from(reader).read_to_string(&mut text).map_err(|e| format!("hear from a child: {e}"))?;
            let _ = waitpid(child, None);
            if text.is_empty() { Ok(()) } else { Err(text) }
        }
    }
}

/// Forks the first process of a new PID namespace, and waits until it has shut itself in.
fn start_init(dir: &Path) -> Result<i32, String> {
    let own = File::open("/proc/self/ns/pid").map_err(|e| format!("open the PID namespace: {e}"))?;
    let (reader, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| format!("make a pipe: {e}"))?;
    unshare(CloneFlags::CLONE_NEWPID).map_err(|e| format!("make the PID namespace: {e}"))?;
    // SAFETY: as above.
    let child = match unsafe { fork() }.map_err(|e| format!("fork: {e}"))? {
        ForkResult::Child => {
            drop(reader);
            let mut line = File::from(writer);
            if let Err(text) = shut_in(dir) {
                let _ = line.write_all(text.as_bytes());
                // SAFETY: ends the process, without the parent's destructors.
                unsafe { libc::_exit(1) }
            }
            drop(line);
            reap_for_ever()
        }
        ForkResult::Parent { child } => child,
    };
    drop(writer);
    // Our other children, the runtime's commands, belong outside.
    setns(own.as_fd(), CloneFlags::CLONE_NEWPID).map_err(|e| format!("return to the PID namespace: {e}"))?;
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).map_err(|e| format!("hear from the sandbox's init: {e}"))?;
    if text.is_empty() { Ok(child.as_raw()) } else { Err(text) }
}

/// The pod's processes see this one in their `/proc`, so it has nothing to show: an empty root, no descriptors. It
/// also holds no mounts of the host that others want to unmount.
fn shut_in(dir: &Path) -> Result<(), String> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| format!("die with the shim: {e}"))?;
    let _ = nix::sys::prctl::set_name(c"pause");
    let step = |what: &str, result: nix::Result<()>| result.map_err(|e| format!("sandbox init: {what}: {e}"));
    let none = None::<&str>;
    step("unshare mounts", unshare(CloneFlags::CLONE_NEWNS))?;
    step("detach mounts", mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    step("mount an empty root", mount(Some("tmpfs"), dir, Some("tmpfs"), flags, none))?;
    step("enter it", nix::unistd::chdir(dir))?;
    step("pivot_root", pivot_root(".", "."))?;
    step("unmount the old root", umount2(".", MntFlags::MNT_DETACH))?;
    step("chdir", nix::unistd::chdir("/"))
}

/// Waits for orphans of the namespace. Signals have no effect on its first process, but SIGKILL from outside.
fn reap_for_ever() -> ! {
    // The pipe to the shim is closed; what else is open (standard streams, the shim's files) is not this process's.
    // SAFETY: nothing of this process uses a descriptor any more.
    unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
    let mut child_ended = SigSet::empty();
    child_ended.add(Signal::SIGCHLD);
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&child_ended), None);
    loop {
        while matches!(
            waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))
        ) {}
        let _ = child_ended.wait();
    }
}
