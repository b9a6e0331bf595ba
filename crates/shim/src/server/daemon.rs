//! From a child of the CRI server to a process that outlives it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pipe2, setsid};

use super::cgroups;
use crate::wire::ShimConfig;

/// What the daemon tells its starter when it is ready; anything else is an error's text.
const READY: &[u8] = b"ready";

/// The daemon's line to its starter.
#[derive(Debug)]
pub(super) struct Ready(File);

impl Ready {
    /// Lets the starter go.
    pub(super) fn tell(mut self) -> Result<(), String> {
        self.0.write_all(READY).map_err(|e| format!("tell the starter: {e}"))
    }
}

/// Runs `daemon` in a process that has no parent, session or standard streams in common with this one, and waits
/// until it is ready. In the daemon's process this does not return.
pub(super) fn start(messages: &Path, daemon: impl FnOnce(Ready) -> Result<(), String>) -> Result<(), String> {
    let (reader, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| format!("make a pipe: {e}"))?;
    // SAFETY: the process has one thread (the condition of `main`), so the child may do anything.
    match unsafe { fork() }.map_err(|e| format!("fork: {e}"))? {
        ForkResult::Parent { child } => {
            drop(writer);
            let text = read_report(File::from(reader)).map_err(|e| format!("wait for the daemon: {e}"))?;
            // The middle process of the double fork.
            let _ = waitpid(child, None);
            match text.as_slice() {
                READY => Ok(()),
                [] => Err("the shim died before it was ready".to_owned()),
                text => Err(String::from_utf8_lossy(text).into_owned()),
            }
        }
        ForkResult::Child => {
            drop(reader);
            let code =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| middle(messages, writer, daemon)));
            // SAFETY: ends the process, without the starter's destructors.
            unsafe { libc::_exit(code.unwrap_or(1)) }
        }
    }
}

/// Reads up to the word for ready, since a daemon that is ready keeps its end open.
fn read_report(mut line: File) -> std::io::Result<Vec<u8>> {
    let (mut text, mut chunk) = (Vec::new(), [0; 512]);
    while text != READY {
        match line.read(&mut chunk)? {
            0 => break,
            count => text.extend_from_slice(&chunk[..count]),
        }
    }
    Ok(text)
}

/// Leaves the starter's session; its child can never get a controlling terminal, and belongs to nobody.
fn middle(messages: &Path, ready: OwnedFd, daemon: impl FnOnce(Ready) -> Result<(), String>) -> i32 {
    let _ = setsid();
    // SAFETY: as above.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {}
        _ => return 0,
    }
    let mut line = File::from(ready);
    let Ok(for_daemon) = line.try_clone() else { return 1 };
    match leave_streams(messages).and_then(|()| daemon(Ready(for_daemon))) {
        Ok(()) => 0,
        Err(text) => {
            crate::say!("{text}");
            let _ = line.write_all(text.as_bytes());
            1
        }
    }
}

fn leave_streams(messages: &Path) -> Result<(), String> {
    let null =
        File::options().read(true).write(true).open("/dev/null").map_err(|e| format!("/dev/null: {e}"))?;
    let messages = File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(messages)
        .map_err(|e| format!("open {}: {e}", messages.display()))?;
    for (file, stream) in [(&null, 0), (&null, 1), (&messages, 2)] {
        // SAFETY: takes numbers only; the standard streams belong to nobody in this process.
        if unsafe { libc::dup2(file.as_raw_fd(), stream) } < 0 {
            return Err(format!("leave the standard streams: {}", std::io::Error::last_os_error()));
        }
    }
    std::env::set_current_dir("/").map_err(|e| format!("chdir to /: {e}"))
}

/// What the kernel is to know of the daemon.
pub(super) fn settle(config: &ShimConfig) -> Result<(), String> {
    // Containers' processes come to us when the runtime that made them ends.
    nix::sys::prctl::set_child_subreaper(true).map_err(|e| format!("become a subreaper: {e}"))?;
    // Nobody but root with CAP_SYS_PTRACE is to look into us, whatever PID namespace we share.
    nix::sys::prctl::set_dumpable(false).map_err(|e| format!("become undumpable: {e}"))?;
    let _ = nix::sys::prctl::set_name(c"corten-shim");
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    if let Some(path) = &config.cgroup {
        cgroups::join(path)?;
    }
    let score = "/proc/self/oom_score_adj";
    if let Err(error) = std::fs::write(score, config.oom_score_adj.to_string()) {
        crate::say!("oom_score_adj {} refused ({error}): the shim goes on without", config.oom_score_adj);
    }
    Ok(())
}
