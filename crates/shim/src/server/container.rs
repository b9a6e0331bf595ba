//! One container of the sandbox.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use super::cgroups;
use super::log_file::{LogFile, Source};
use super::output::Output;
use super::pipes::{Pipe, null, set_nonblocking};
use crate::disk;
use crate::wire::{ContainerPhase, ContainerState, CreateContainer, ExitStatus, TerminalSize};

/// A container and the streams that we own of it.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) state: ContainerState,
    pub(super) log: Option<LogFile>,
    pub(super) outputs: Vec<Output>,
    /// The write end of its standard input.
    pub(super) stdin: Option<OwnedFd>,
    /// Its terminal.
    pub(super) master: Option<OwnedFd>,
    /// Its command could not be executed.
    pub(super) start_failed: bool,
    /// The runtime is deleting it.
    pub(super) deleting: bool,
}

impl Container {
    /// A container that the runtime is about to make, and the standard streams to make it with.
    pub(super) fn new(request: CreateContainer) -> io::Result<(Self, [OwnedFd; 3])> {
        let log = request.log_path.as_deref().map(LogFile::open).transpose()?;
        let mut container = Self {
            state: ContainerState {
                container: request,
                phase: ContainerPhase::Creating,
                pid: 0,
                created_at_ns: 0,
                started_at_ns: 0,
                exit: None,
                cgroups: Default::default(),
            },
            log,
            outputs: Vec::new(),
            stdin: None,
            master: None,
            start_failed: false,
            deleting: false,
        };
        let streams = container.make_streams()?;
        Ok((container, streams))
    }

    fn make_streams(&mut self) -> io::Result<[OwnedFd; 3]> {
        if self.state.container.tty {
            return Ok([null()?, null()?, null()?]);
        }
        let stdin = if self.state.container.stdin {
            let pipe = Pipe::new()?;
            self.stdin = Some(pipe.writer);
            pipe.reader
        } else {
            null()?
        };
        let mut output = |kind| -> io::Result<OwnedFd> {
            let pipe = Pipe::new()?;
            set_nonblocking(&pipe.reader)?;
            self.outputs.push(Output::new(pipe.reader, kind));
            Ok(pipe.writer)
        };
        let (stdout, stderr) = (output(Source::Stdout)?, output(Source::Stderr)?);
        Ok([stdin, stdout, stderr])
    }

    /// Takes over its terminal.
    pub(super) fn set_master(&mut self, master: OwnedFd) -> io::Result<()> {
        set_nonblocking(&master)?;
        self.outputs.push(Output::new(master.try_clone()?, Source::Stdout));
        self.master = Some(master);
        Ok(())
    }

    /// The runtime has made it.
    pub(super) fn created(&mut self, pid: i32) {
        self.state.pid = pid;
        self.state.phase = ContainerPhase::Created;
        self.state.created_at_ns = disk::now_ns();
        self.state.cgroups = cgroups::of_process(pid);
    }

    /// Its first process has ended: nothing else of it may go on, what it wrote goes to the log.
    pub(super) fn exited(&mut self, status: i32) -> ExitStatus {
        let oom_killed = cgroups::oom_kills(&self.state.cgroups) > 0;
        cgroups::signal_all(&self.state.cgroups, libc::SIGKILL);
        for output in &mut self.outputs {
            output.drain(self.log.as_mut());
        }
        self.stdin = None;
        let mut exit = exit_status(status);
        exit.oom_killed = oom_killed;
        if self.start_failed {
            (exit.code, exit.signal) = (START_FAILED, None);
        }
        self.state.phase = ContainerPhase::Exited;
        self.state.exit = Some(exit.clone());
        exit
    }

    /// Puts the state on disk; a failure is told, and the container goes on.
    pub(super) fn save(&self, dir: &Path, durable: bool) {
        if let Err(error) = disk::write_container(dir, &self.state, durable) {
            crate::say!("write the state of container {}: {error}", self.state.container.id);
        }
    }

    /// Sends a signal to its first process or all. It is our child that we have not waited for, so the number is its.
    pub(super) fn signal(&self, signal: i32, all: bool) -> io::Result<()> {
        if all {
            cgroups::signal_all(&self.state.cgroups, signal);
            return Ok(());
        }
        // SAFETY: takes numbers only.
        match unsafe { libc::kill(self.state.pid, signal) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub(super) fn resize(&self, size: TerminalSize) -> io::Result<()> {
        match &self.master {
            Some(master) => crate::terminal::set_size(master.as_raw_fd(), size),
            None => Err(io::Error::other("the container has no terminal")),
        }
    }
}

/// The exit code of a container whose command could not be executed, as other runtimes give it.
const START_FAILED: i32 = 128;

/// From what waitpid(2) says.
pub(super) fn exit_status(status: i32) -> ExitStatus {
    let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
    ExitStatus {
        code: signal.map_or_else(|| libc::WEXITSTATUS(status), |signal| 128 + signal),
        signal,
        oom_killed: false,
        finished_at_ns: disk::now_ns(),
    }
}
