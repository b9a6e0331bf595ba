//! The asynchronous client of a shim: one short connection per call.

mod connection;
mod dead;
mod session;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::error::Error;
use crate::wire::{
    AttachRequest, CONFIG_FILE, ContainerState, CreateContainer, Event, ExecRequest, ExitStatus, Op, Reply,
    SandboxState, ShimConfig, TerminalSize,
};
use connection::Connection;

pub use dead::{clean_up_dead, scan};
pub use session::{AttachGuard, AttachSession, ExecSession, FdStream};

/// The most that [`Shim::exec_sync`] keeps of each of standard output and error (upstream's limit, 16 MiB).
pub const EXEC_SYNC_OUTPUT_LIMIT: usize = 16 << 20;
/// How long a new shim may take to make its namespaces.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running shim, known by its directory. Cheap to clone; holds no connection.
#[derive(Debug, Clone)]
pub struct Shim {
    dir: PathBuf,
}

/// What a command of [`Shim::exec_sync`] gave.
#[derive(Debug, Clone)]
pub struct ExecOutput {
    /// How it ended.
    pub exit: ExitStatus,
    /// Its standard output, cut at [`EXEC_SYNC_OUTPUT_LIMIT`].
    pub stdout: Vec<u8>,
    /// Its standard error, cut at [`EXEC_SYNC_OUTPUT_LIMIT`].
    pub stderr: Vec<u8>,
}

impl Shim {
    /// Starts a shim for a new sandbox in `dir`, which is made (mode 0700) if it does not exist and must hold no other
    /// shim. `program` is what runs [`crate::main`], e.g. `["/proc/self/exe", "shim"]`; it gets `--dir DIR` added.
    ///
    /// Returns when the sandbox's namespaces exist. On failure nothing is left running; the directory stays.
    pub async fn start(program: &[String], dir: &Path, config: &ShimConfig) -> Result<Self, Error> {
        let Some((command, args)) = program.split_first() else {
            return Err(Error::Start("no program given".to_owned()));
        };
        prepare_dir(dir, config)?;
        let mut child = tokio::process::Command::new(command);
        child
            .args(args)
            .arg("--dir")
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let output = tokio::time::timeout(START_TIMEOUT, child.kill_on_drop(true).output()).await;
        let output = output
            .map_err(|_| Error::Start(format!("not ready after {START_TIMEOUT:?}")))?
            .map_err(Error::io(format!("run {command}")))?;
        if !output.status.success() {
            return Err(Error::Start(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Self::connect(dir).await
    }

    /// The shim that lives in `dir`; [`Error::Gone`] if none answers.
    pub async fn connect(dir: &Path) -> Result<Self, Error> {
        let shim = Self { dir: dir.to_owned() };
        shim.state().await?;
        Ok(shim)
    }

    /// The shim's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The sandbox and all its containers.
    pub async fn state(&self) -> Result<SandboxState, Error> {
        match self.call("reading the sandbox's state", Op::State).await? {
            Reply::State(state) => Ok(*state),
            other => Err(unexpected(&other)),
        }
    }

    /// The sandbox and all its containers as of now, and everything that happens from now on.
    pub async fn subscribe(&self) -> Result<(SandboxState, Events), Error> {
        let mut connection = Connection::open(&self.dir).await?;
        match connection.call("subscribing", Op::Subscribe).await?.0 {
            Reply::State(state) => Ok((*state, Events { connection })),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a container; its command does not run yet.
    pub async fn create_container(&self, container: CreateContainer) -> Result<ContainerState, Error> {
        self.container("creating a container", Op::Create(container)).await
    }

    /// Runs the command of a created container. If its program cannot be executed the answer is an error with the
    /// runtime's text, and the container is [`crate::ContainerPhase::Exited`] with code 128.
    pub async fn start_container(&self, id: &str) -> Result<ContainerState, Error> {
        self.container("starting a container", Op::Start { id: id.to_owned() }).await
    }

    /// Sends a signal to a container's first process, or to `all` of its processes. No error if it has exited.
    pub async fn kill(&self, id: &str, signal: i32, all: bool) -> Result<(), Error> {
        self.done("signalling a container", Op::Kill { id: id.to_owned(), signal, all }).await
    }

    /// Forgets an exited (or, by `force`, kills any) container with its runtime state and cgroup, and gives its last
    /// state. [`Error::is_not_found`] if there is none.
    pub async fn delete_container(&self, id: &str, force: bool) -> Result<ContainerState, Error> {
        self.container("deleting a container", Op::Delete { id: id.to_owned(), force }).await
    }

    /// Changes limits of a running container; `resources` is the runtime specification's `LinuxResources`.
    pub async fn update_container(&self, id: &str, resources: serde_json::Value) -> Result<(), Error> {
        self.done("updating a container", Op::Update { id: id.to_owned(), resources }).await
    }

    /// Runs a command in a container. It lives no longer than the session: dropping that kills it.
    pub async fn exec(&self, request: ExecRequest) -> Result<ExecSession, Error> {
        let mut connection = Connection::open(&self.dir).await?;
        let wanted = (request.stdin, request.stdout, request.stderr, request.tty);
        match connection.call("starting a command", Op::Exec(request)).await? {
            (Reply::Running { pid }, fds) => ExecSession::new(connection, pid, wanted, fds),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Runs a command in a container to its end and keeps its output. `None` waits for ever. After the command's end
    /// output that its children still hold open is not waited for.
    pub async fn exec_sync(
        &self,
        container_id: &str,
        process: serde_json::Value,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput, Error> {
        let run = self.exec_to_end(container_id, process);
        match timeout {
            None => run.await,
            Some(limit) => tokio::time::timeout(limit, run).await.map_err(|_| Error::Timeout(limit))?,
        }
    }

    async fn exec_to_end(&self, id: &str, process: serde_json::Value) -> Result<ExecOutput, Error> {
        let request = ExecRequest {
            container_id: id.to_owned(),
            process,
            stdin: false,
            stdout: true,
            stderr: true,
            tty: false,
        };
        let mut session = self.exec(request).await?;
        let (mut out, mut err) = (session.stdout.take(), session.stderr.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let exit = {
            let reading =
                async { tokio::join!(collect(&mut out, &mut stdout), collect(&mut err, &mut stderr)) };
            tokio::pin!(reading);
            tokio::select! {
                exit = session.wait() => exit?,
                _ = &mut reading => session.wait().await?,
            }
        };
        // What the command wrote before its end is in the pipes already.
        drain(&mut out, &mut stdout);
        drain(&mut err, &mut stderr);
        Ok(ExecOutput { exit, stdout, stderr })
    }

    /// Joins the streams of a running container.
    pub async fn attach(&self, request: AttachRequest) -> Result<AttachSession, Error> {
        let mut connection = Connection::open(&self.dir).await?;
        let wanted = (request.stdin, request.stdout, request.stderr);
        match connection.call("attaching", Op::Attach(request)).await? {
            (Reply::Streams { tty, stdin }, fds) => {
                AttachSession::new(connection, tty, (wanted.0 && stdin, wanted.1, wanted.2), fds)
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Sets the size of a container's terminal.
    pub async fn resize(&self, id: &str, size: TerminalSize) -> Result<(), Error> {
        self.done("resizing a terminal", Op::Resize { id: id.to_owned(), size }).await
    }

    /// Ends a container's standard input.
    pub async fn close_stdin(&self, id: &str) -> Result<(), Error> {
        self.done("closing standard input", Op::CloseStdin { id: id.to_owned() }).await
    }

    /// Opens a container's log file anew, after it was renamed for rotation.
    pub async fn reopen_log(&self, id: &str) -> Result<(), Error> {
        self.done("reopening a log", Op::ReopenLog { id: id.to_owned() }).await
    }

    /// Kills and deletes all containers and ends the shim. The directory stays, for the caller to remove. No error if
    /// the shim is gone already.
    pub async fn shutdown(&self) -> Result<(), Error> {
        match self.done("shutting down", Op::Shutdown).await {
            Err(Error::Gone { .. }) => Ok(()),
            other => other,
        }
    }

    async fn call(&self, doing: &'static str, op: Op) -> Result<Reply, Error> {
        Ok(Connection::open(&self.dir).await?.call(doing, op).await?.0)
    }

    async fn done(&self, doing: &'static str, op: Op) -> Result<(), Error> {
        match self.call(doing, op).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn container(&self, doing: &'static str, op: Op) -> Result<ContainerState, Error> {
        match self.call(doing, op).await? {
            Reply::Container(state) => Ok(*state),
            other => Err(unexpected(&other)),
        }
    }
}

/// The events of one shim, in order, none missing since the state that came with them.
#[derive(Debug)]
pub struct Events {
    connection: Connection,
}

impl Events {
    /// The next event. `None` when the shim was shut down or died. Safe to drop at its await.
    pub async fn next(&mut self) -> Option<Event> {
        match self.connection.receive("waiting for events").await {
            Ok((Reply::Event(event), _)) => Some(event),
            _ => None,
        }
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::Protocol(format!("unexpected answer {reply:?}"))
}

fn prepare_dir(dir: &Path, config: &ShimConfig) -> Result<(), Error> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)))
        .map_err(Error::io(format!("make {}", dir.display())))?;
    let path = dir.join(CONFIG_FILE);
    let text = serde_json::to_vec(config).map_err(|e| Error::Protocol(e.to_string()))?;
    std::fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))
}

/// Reads to the end and keeps the first [`EXEC_SYNC_OUTPUT_LIMIT`] bytes.
async fn collect(from: &mut Option<FdStream>, into: &mut Vec<u8>) {
    let Some(stream) = from else { return };
    let mut chunk = vec![0; 16 << 10];
    while let Ok(count) = stream.read(&mut chunk).await {
        if count == 0 {
            return;
        }
        keep(into, &chunk[..count]);
    }
}

fn drain(from: &mut Option<FdStream>, into: &mut Vec<u8>) {
    let Some(stream) = from else { return };
    let mut chunk = vec![0; 16 << 10];
    while let Ok(count @ 1..) = stream.read_now(&mut chunk) {
        keep(into, &chunk[..count]);
    }
}

fn keep(into: &mut Vec<u8>, bytes: &[u8]) {
    let room = EXEC_SYNC_OUTPUT_LIMIT - into.len();
    into.extend_from_slice(&bytes[..bytes.len().min(room)]);
}
