//! Programs that are run at points of a container's life.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::spec::Hook;
use crate::sys;

/// How much of a failed hook's error output is repeated.
const MAX_OUTPUT: u64 = 4096;

/// What a hook reads on its standard input: the specification's state.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HookState {
    /// Version of the specification.
    pub oci_version: String,
    /// The container.
    pub id: String,
    /// `creating`, `created`, `running` or `stopped`.
    pub status: &'static str,
    /// Its first process.
    pub pid: i32,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The configuration's annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Runs hooks one after the other, to the first that fails.
pub fn run_all(name: &'static str, hooks: &[Hook], state: &HookState) -> Result<()> {
    hooks.iter().try_for_each(|hook| {
        run(hook, state).map_err(|message| Error::Hook {
            name,
            path: hook.path.display().to_string(),
            message,
        })
    })
}

fn run(hook: &Hook, state: &HookState) -> std::result::Result<(), String> {
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let text = serde_json::to_vec(state).map_err(|e| e.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read it. The state is small enough for the pipe not to block.
        let _ = stdin.write_all(&text);
    }
    let ended = wait(&mut child, hook.timeout.map(Duration::from_secs))?;
    let mut output = String::new();
    if let Some(stderr) = child.stderr.take().filter(|_| !ended.success()) {
        let _ = stderr.take(MAX_OUTPUT).read_to_string(&mut output);
    }
    if ended.success() { Ok(()) } else { Err(format!("{ended}, stderr: {}", output.trim())) }
}

fn wait(
    child: &mut Child,
    timeout: Option<Duration>,
) -> std::result::Result<std::process::ExitStatus, String> {
    if let Some(timeout) = timeout {
        let process = sys::pidfd_open(child.id() as i32).map_err(|e| e.to_string())?;
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(timeout.as_millis()).unwrap_or(PollTimeout::MAX);
        if nix::poll::poll(&mut fds, limit) == Ok(0) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("timed out after {timeout:?}"));
        }
    }
    child.wait().map_err(|e| e.to_string())
}
