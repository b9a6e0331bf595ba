//! The messages between client and shim, and the files that a shim keeps.
//!
//! A connection carries one request. Its answer is one [`Reply`], with descriptors for exec and attach; exec gets a
//! second one at the command's end, and a subscription gets events until either side ends.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;

/// The version of the messages below. A shim outlives the binary that started it, so a newer client must go on
/// speaking to it: fields are only added, with defaults, or the number is raised and both are understood.
pub(crate) const PROTOCOL_VERSION: u32 = 1;
/// The socket's name in the shim's directory.
pub(crate) const SOCKET: &str = "shim.sock";
/// The [`ShimConfig`], written before the shim starts.
pub(crate) const CONFIG_FILE: &str = "config.json";
/// The folder in which every container has one of its own, named by its id.
pub(crate) const CONTAINERS_DIR: &str = "containers";
/// The [`ContainerState`] in a container's folder, replaced atomically and synced at every change of phase.
pub(crate) const CONTAINER_FILE: &str = "state.json";

/// What a shim is for; does not change during its life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShimConfig {
    /// The CRI id of the pod sandbox.
    pub sandbox_id: String,
    /// The OCI runtime that makes this pod's containers.
    pub runtime: RuntimeCommand,
    /// A UTS namespace of its own with this name; `None` stays in the host's (`hostNetwork`).
    #[serde(default)]
    pub hostname: Option<String>,
    /// An IPC namespace of its own; false for `hostIPC`.
    #[serde(default)]
    pub ipc: bool,
    /// A PID namespace that all containers share (`shareProcessNamespace`); its first process is a reaper that dies
    /// with the shim, and everything in the namespace with it.
    #[serde(default)]
    pub shared_pid: bool,
    /// The pod's network namespace, a file that the CRI server made; sysctls are set in it. The shim itself stays in
    /// the host's.
    #[serde(default)]
    pub netns: Option<PathBuf>,
    /// The pod's sysctls, set once in its IPC, UTS and network namespaces. Names with dots or slashes.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// A cgroup (below the root of every hierarchy, e.g. `/corten/shims`) that the shim moves itself to, so that the
    /// end of the server's cgroup is not the shim's. `None` stays where it was started.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// `oom_score_adj` of the shim, -998 usually; if the kernel refuses it the shim goes on without.
    #[serde(default)]
    pub oom_score_adj: i32,
}

/// How to run an OCI runtime.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RuntimeCommand {
    /// The program and its first arguments: `["/proc/self/exe", "oci"]` (the shim's own binary, even if the file was
    /// replaced meanwhile) or `["/usr/sbin/runc"]`.
    pub command: Vec<String>,
    /// The runtime's `--root`, a directory for its state.
    pub root: PathBuf,
}

/// A container to be made from a bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreateContainer {
    /// The CRI id of the container.
    pub id: String,
    /// The directory with `config.json` (and usually `rootfs`). For a terminal `process.terminal` must be true.
    pub bundle: PathBuf,
    /// Keep a pipe open as standard input; else it reads `/dev/null`.
    #[serde(default)]
    pub stdin: bool,
    /// Close standard input after the first attached session that had it.
    #[serde(default)]
    pub stdin_once: bool,
    /// Give it a pseudo-terminal.
    #[serde(default)]
    pub tty: bool,
    /// Where the log goes, in the CRI format; `None` drops it.
    #[serde(default)]
    pub log_path: Option<PathBuf>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// The exit code; 128 + signal if a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// The kernel killed a process of the container for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// When, in nanoseconds since 1970.
    pub finished_at_ns: i64,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerPhase {
    /// The runtime is making it.
    Creating,
    /// Made, its command not yet started.
    Created,
    /// Its command runs.
    Running,
    /// Its first process ended; [`ContainerState::exit`] says how.
    Exited,
}

/// What a shim knows of one container; also the file that it keeps about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerState {
    /// The request that made it.
    pub container: CreateContainer,
    /// Where it is in its life.
    pub phase: ContainerPhase,
    /// Its first process, in the shim's PID namespace; 0 while creating.
    #[serde(default)]
    pub pid: i32,
    /// When it was created, in nanoseconds since 1970.
    #[serde(default)]
    pub created_at_ns: i64,
    /// When its command was started, in nanoseconds since 1970; 0 if not yet.
    #[serde(default)]
    pub started_at_ns: i64,
    /// How it ended.
    #[serde(default)]
    pub exit: Option<ExitStatus>,
    /// Its cgroup directories by controller (`memory`, `pids`, …, each on its own on cgroup v1; the single key `""`
    /// on v2), as they were right after creation.
    #[serde(default)]
    pub cgroups: BTreeMap<String, PathBuf>,
}

/// What a shim knows of its sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxState {
    /// The CRI id of the pod sandbox.
    pub sandbox_id: String,
    /// The shim's process.
    pub shim_pid: i32,
    /// When the shim started, in nanoseconds since 1970.
    pub started_at_ns: i64,
    /// False after the shared PID namespace's first process died: no container can run any more.
    pub ready: bool,
    /// Namespace files to join (`/proc/PID/ns/ipc`), valid as long as the shim lives. `None`: the host's.
    #[serde(default)]
    pub ipc_ns: Option<PathBuf>,
    /// As `ipc_ns`, for the host name.
    #[serde(default)]
    pub uts_ns: Option<PathBuf>,
    /// As `ipc_ns`, for a PID namespace that the pod shares.
    #[serde(default)]
    pub pid_ns: Option<PathBuf>,
    /// All containers that are not deleted, by id.
    #[serde(default)]
    pub containers: BTreeMap<String, ContainerState>,
}

/// Something that happened without being asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A container's first process ended. Its exit is on disk, and its output so far in its log.
    ContainerExited {
        /// The container.
        id: String,
        /// How it ended.
        exit: ExitStatus,
    },
    /// The sandbox cannot run containers any more.
    SandboxDown {
        /// Why.
        message: String,
    },
}

/// A command to run in a running container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The container.
    pub container_id: String,
    /// The OCI runtime `Process` as JSON; `terminal` must agree with `tty`.
    pub process: serde_json::Value,
    /// Connect standard input; else it reads `/dev/null`.
    #[serde(default)]
    pub stdin: bool,
    /// Connect standard output; else it is dropped.
    #[serde(default)]
    pub stdout: bool,
    /// Connect standard error; else it is dropped. Not with `tty`.
    #[serde(default)]
    pub stderr: bool,
    /// Give it a pseudo-terminal.
    #[serde(default)]
    pub tty: bool,
}

/// Which streams of a running container to join.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttachRequest {
    /// The container.
    pub container_id: String,
    /// Write to its standard input (nothing happens if it has none).
    #[serde(default)]
    pub stdin: bool,
    /// Read its standard output.
    #[serde(default)]
    pub stdout: bool,
    /// Read its standard error; not with a terminal.
    #[serde(default)]
    pub stderr: bool,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

/// What a connection begins with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub version: u32,
    pub op: Op,
}

/// The calls. Descriptors in answers: exec and attach send those asked for in the order stdin, stdout, stderr; exec
/// on a terminal sends its master alone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    State,
    Subscribe,
    Create(CreateContainer),
    Start { id: String },
    Kill { id: String, signal: i32, all: bool },
    Delete { id: String, force: bool },
    Update { id: String, resources: serde_json::Value },
    Exec(ExecRequest),
    Attach(AttachRequest),
    Resize { id: String, size: TerminalSize },
    CloseStdin { id: String },
    ReopenLog { id: String },
    Shutdown,
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Done,
    State(Box<SandboxState>),
    Container(Box<ContainerState>),
    /// The command runs; the descriptors are with this message.
    Running {
        pid: i32,
    },
    /// The command ended.
    Exited(ExitStatus),
    /// The descriptors are with this message; `stdin` is false if the container has none.
    Streams {
        tty: bool,
        stdin: bool,
    },
    Event(Event),
    Error {
        kind: ErrorKind,
        message: String,
    },
}
