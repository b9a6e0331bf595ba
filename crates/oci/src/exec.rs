//! `exec`: a further process in a running container.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::create::{warn_of_ignored_in_process, write_pid_file};
use crate::error::{Context, Error, Result};
use crate::init::{self, Common, FromInit, ToInit};
use crate::log::Log;
use crate::process::{self, PidNamespace};
use crate::seccomp::Filter;
use crate::spec::{NamespaceKind, Process, read_json};
use crate::state::{State, Status, Store};

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file with the process.
    pub process: PathBuf,
    /// Where to write its number.
    pub pid_file: Option<PathBuf>,
    /// Where to send a terminal's master.
    pub console_socket: Option<PathBuf>,
    /// Do not wait for its end.
    pub detach: bool,
    /// Descriptors from 3 on that it inherits.
    pub preserve_fds: u32,
}

const KINDS: [NamespaceKind; 6] = [
    NamespaceKind::Pid,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Network,
    NamespaceKind::Cgroup,
    NamespaceKind::Mount,
];

/// Runs a process in a container. The exit code to end with: its own, or 0 when it is detached.
pub fn exec(store: &Store, id: &str, options: &Options, log: &Log) -> Result<i32> {
    let state = store.load_complete()?;
    match store.status(&state) {
        Status::Stopped => return Err(Error::State("cannot exec in a stopped container".to_owned())),
        Status::Paused => return Err(Error::State("cannot exec in a paused container".to_owned())),
        Status::Created | Status::Running => {}
    }
    let wanted: Process = read_json(&options.process)?;
    wanted.validate()?;
    warn_of_ignored_in_process(Some(&wanted), log);
    let seccomp = store.spec()?.linux.seccomp;
    let join = open_namespaces(&state)?;
    let pid_namespace = join.iter().find(|(kind, _)| *kind == NamespaceKind::Pid);
    let pid_namespace = pid_namespace.map(|(_, file)| file.try_clone()).transpose();
    let pid_namespace = pid_namespace.doing(|| "duplicate a namespace".to_owned())?;
    let (ours, theirs) = init::channel()?;
    let common = Common {
        id: id.to_owned(),
        channel: theirs,
        console: options.console_socket.as_deref().map(init::connect_console).transpose()?,
        preserve_fds: options.preserve_fds,
        filter: seccomp.as_ref().map(Filter::compile).transpose()?,
        join,
        log: log.clone(),
    };
    let ours_in_child = &ours;
    let pid = process::fork_into(pid_namespace.as_ref().map(PidNamespace::Join), move || {
        ours_in_child.close();
        init::further(common, &wanted)
    })?;
    accompany(&state, pid, &ours, options).inspect_err(|_| process::kill_child(pid))?;
    if options.detach { Ok(0) } else { process::wait_for(pid) }
}

fn accompany(state: &State, pid: i32, channel: &init::Channel, options: &Options) -> Result<()> {
    state.cgroup.add_process(pid)?;
    channel.send(&ToInit::Go)?;
    // The channel closes by itself when the command is executed.
    match channel.receive()? {
        None => {}
        Some(FromInit::Failed(text)) => return Err(Error::Init(text)),
        Some(other) => return Err(Error::Init(format!("unexpected message {other:?}"))),
    }
    options.pid_file.as_ref().map_or(Ok(()), |path| write_pid_file(path, pid))
}

/// The container's namespaces that are not ours already.
fn open_namespaces(state: &State) -> Result<Vec<(NamespaceKind, OwnedFd)>> {
    let mut join = Vec::new();
    for kind in KINDS {
        let (theirs, ours) = (
            format!("/proc/{}/ns/{}", state.init.pid, kind.file()),
            format!("/proc/self/ns/{}", kind.file()),
        );
        let link = |path: &str| std::fs::read_link(path).doing(|| format!("read {path}"));
        if link(&theirs)? != link(&ours)? {
            let file = std::fs::File::open(&theirs).doing(|| format!("open {theirs}"))?;
            join.push((kind, file.into()));
        }
    }
    // Between the reads the process may have died and its number been given away.
    if state.init.is_alive() { Ok(join) } else { Err(Error::State("the container has stopped".to_owned())) }
}
