//! Commands of the OCI runtime. Each is a child; the loop hears of its end and goes on from there.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::conn::ConnId;
use super::pipes::ConsoleSocket;
use crate::wire::RuntimeCommand;

/// How long a command may take; hooks are the only thing in it that can take long.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How much of the runtime's log is read after a failure.
const MAX_LOG: usize = 64 << 10;

/// A running command.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) kind: Kind,
    /// Who waits for it, if still there.
    pub(super) conn: Option<ConnId>,
    pub(super) deadline: Instant,
    pub(super) timed_out: bool,
    /// Its own folder, for its log and other files.
    folder: PathBuf,
}

/// What the command is for.
#[derive(Debug)]
pub(super) enum Kind {
    Create { id: String, console: Option<ConsoleSocket> },
    Start { id: String },
    Delete { id: String },
    Update,
    Exec { fds: Vec<OwnedFd>, console: Option<ConsoleSocket> },
}

impl Kind {
    fn command(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Start { .. } => "start",
            Self::Delete { .. } => "delete",
            Self::Update => "update",
            Self::Exec { .. } => "exec",
        }
    }
}

/// A command that is to be run.
#[derive(Debug)]
pub(super) struct Plan {
    folder: PathBuf,
    args: Vec<OsString>,
    streams: Option<[OwnedFd; 3]>,
}

impl Plan {
    /// Makes the command's folder. `args` go between the subcommand and the container's id.
    pub(super) fn new(jobs_dir: &Path, number: u64) -> io::Result<Self> {
        let folder = jobs_dir.join(number.to_string());
        std::fs::create_dir_all(&folder)?;
        Ok(Self { folder, args: Vec::new(), streams: None })
    }

    pub(super) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(super) fn streams(mut self, streams: [OwnedFd; 3]) -> Self {
        self.streams = Some(streams);
        self
    }

    /// Writes a file for the command, and names it as an argument.
    pub(super) fn file_arg(self, flag: &str, name: &str, text: &[u8]) -> io::Result<Self> {
        let path = self.folder.join(name);
        std::fs::write(&path, text)?;
        Ok(self.arg(flag).arg(path))
    }

    /// Has the command write a process's number.
    pub(super) fn pid_file(self) -> Self {
        let path = self.folder.join(PID_FILE);
        self.arg("--pid-file").arg(path)
    }

    /// Has the command send a terminal here.
    pub(super) fn console(self) -> io::Result<(Self, ConsoleSocket)> {
        let console = ConsoleSocket::new(&self.folder, "console")?;
        let path = console.path.clone();
        Ok((self.arg("--console-socket").arg(path), console))
    }

    /// Runs it; the process's number and the job.
    pub(super) fn spawn(
        self,
        runtime: &RuntimeCommand,
        kind: Kind,
        id: &str,
        conn: Option<ConnId>,
    ) -> io::Result<(i32, Job)> {
        let Some((program, first_args)) = runtime.command.split_first() else {
            return Err(io::Error::other("the configuration names no runtime"));
        };
        let mut command = Command::new(program);
        command.args(first_args).arg("--root").arg(&runtime.root);
        command.arg("--log").arg(self.folder.join(LOG_FILE)).args(["--log-format", "json"]);
        command.arg(kind.command()).args(&self.args).arg(id);
        match self.streams {
            Some([stdin, stdout, stderr]) => command.stdin(stdin).stdout(stdout).stderr(stderr),
            None => command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()),
        };
        // SAFETY: between fork and exec only this system call is made, which takes numbers only.
        unsafe {
            command.pre_exec(|| {
                // The shim may do without huge pages; containers do as the machine has it.
                libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0);
                Ok(())
            });
        }
        let child = command.spawn().map_err(|e| io::Error::new(e.kind(), format!("run {program}: {e}")))?;
        let deadline = Instant::now() + TIMEOUT;
        Ok((child.id() as i32, Job { kind, conn, deadline, timed_out: false, folder: self.folder }))
    }
}

const PID_FILE: &str = "pid";
const LOG_FILE: &str = "log.json";

impl Job {
    /// The process's number that the command wrote.
    pub(super) fn pid(&self) -> io::Result<i32> {
        let text = std::fs::read_to_string(self.folder.join(PID_FILE))?;
        text.trim().parse().map_err(|_| io::Error::other(format!("pid file {text:?}")))
    }

    fn log(&self) -> Vec<LogLine> {
        let text = std::fs::read(self.folder.join(LOG_FILE)).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(MAX_LOG)..];
        tail.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// What the runtime could not do as asked for, and went on without.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        self.log().into_iter().filter(|line| line.level == "warning").map(|line| line.msg)
    }

    /// What the runtime said of its failure, introduced as other runtimes' shims do.
    pub(super) fn failure(&self, status: i32) -> String {
        let messages = self.log();
        let mut errors = messages.iter().filter(|m| matches!(m.level.as_str(), "error" | "fatal"));
        let command = self.kind.command();
        match errors.next_back() {
            Some(message) => format!("OCI runtime {command} failed: {}", message.msg),
            None if self.timed_out => format!("OCI runtime {command} did not end within {TIMEOUT:?}"),
            None => format!("OCI runtime {command} failed without a message (wait status {status:#x})"),
        }
    }

    /// Removes the command's folder.
    pub(super) fn clean_up(&self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[derive(serde::Deserialize)]
struct LogLine {
    level: String,
    msg: String,
}
