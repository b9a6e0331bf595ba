//! The loop: waits for whatever comes next, and hands it to who knows what to do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Instant;

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::conn::{Conn, ConnId, Received, Role};
use super::container::Container;
use super::jobs::Job;
use super::sandbox::Sandbox;
use crate::disk;
use crate::error::ErrorKind;
use crate::wire::{ContainerPhase, Event, Reply, ShimConfig};

/// The most clients at once; a CRI server has a few, and one for each attached session and running exec.
const MAX_CONNECTIONS: usize = 512;
/// The folder for what the runtime's commands read and write.
const JOBS_DIR: &str = "jobs";

/// All that the shim knows.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) dir: PathBuf,
    pub(super) jobs_dir: PathBuf,
    pub(super) config: ShimConfig,
    pub(super) sandbox: Sandbox,
    pub(super) started_at_ns: i64,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    /// The runtime's commands by process.
    pub(super) jobs: BTreeMap<i32, Job>,
    /// Commands in containers by process, with who waits for them.
    pub(super) execs: BTreeMap<i32, ConnId>,
    /// Ends of processes that nobody has claimed yet, while a command may still turn out to have made them.
    pub(super) unclaimed: VecDeque<(i32, i32)>,
    /// Who waits for the sandbox's end, if it is to end.
    pub(super) shutdown: Option<Option<ConnId>>,
    pub(super) next_number: u64,
    /// Warnings of the runtime that were passed on.
    pub(super) warned: BTreeSet<String>,
    /// `None` when no more clients are to come.
    listener: Option<UnixListener>,
    signals: SignalFd,
    /// The machine is going down.
    pub(super) terminating: bool,
    finished: bool,
}

/// What a descriptor in the poll set belongs to.
#[derive(Debug)]
enum Token {
    Signals,
    Listener,
    Conn(ConnId),
    Output(String, usize),
    Client(String, usize, ConnId),
}

impl Server {
    pub(super) fn new(
        dir: PathBuf,
        config: ShimConfig,
        sandbox: Sandbox,
        listener: UnixListener,
    ) -> Result<Self, String> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.add(Signal::SIGTERM);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).map_err(|e| format!("block signals: {e}"))?;
        for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGPIPE] {
            // SAFETY: ignoring runs no code of ours.
            unsafe { signal(ignored, SigHandler::SigIgn) }.map_err(|e| format!("ignore {ignored}: {e}"))?;
        }
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals =
            SignalFd::with_flags(&mask, flags).map_err(|e| format!("make a signal descriptor: {e}"))?;
        let jobs_dir = dir.join(JOBS_DIR);
        let _ = std::fs::remove_dir_all(&jobs_dir);
        Ok(Self {
            dir,
            jobs_dir,
            config,
            sandbox,
            started_at_ns: disk::now_ns(),
            containers: BTreeMap::new(),
            conns: BTreeMap::new(),
            jobs: BTreeMap::new(),
            execs: BTreeMap::new(),
            unclaimed: VecDeque::new(),
            shutdown: None,
            next_number: 0,
            warned: BTreeSet::new(),
            listener: Some(listener),
            signals,
            terminating: false,
            finished: false,
        })
    }

    /// Runs until the sandbox is shut down.
    pub(super) fn run(mut self) -> Result<(), String> {
        while !self.is_finished() {
            let (mut set, tokens) = self.poll_set();
            let timeout = self.timeout_ms();
            // SAFETY: the pointer and length are the vector's, which lives until the call returns.
            let count = unsafe { libc::poll(set.as_mut_ptr(), set.len() as libc::nfds_t, timeout) };
            if count < 0 {
                let error = std::io::Error::last_os_error();
                if error.kind() != std::io::ErrorKind::Interrupted {
                    return Err(format!("poll: {error}"));
                }
                continue;
            }
            for (entry, token) in set.iter().zip(tokens).filter(|(entry, _)| entry.revents != 0) {
                self.dispatch(token, entry.revents);
            }
            self.expire(Instant::now());
        }
        if let Some(pid) = self.sandbox.init {
            // SAFETY: takes numbers only; it is our child that we have not waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let _ = std::fs::remove_dir_all(&self.jobs_dir);
        self.leave();
        Ok(())
    }

    /// The last answer must have been sent.
    fn is_finished(&self) -> bool {
        let all_ended = self.containers.values().all(|c| c.state.phase == ContainerPhase::Exited);
        (self.finished && self.conns.values().all(|c| !c.closing || !c.wants_to_write()))
            || (self.terminating && all_ended && self.jobs.is_empty())
    }

    /// No more is to be done than to send what is queued.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        self.leave();
    }

    /// From here on nobody finds the shim.
    fn leave(&mut self) {
        if self.listener.take().is_some() {
            let _ = std::fs::remove_file(self.dir.join(crate::wire::SOCKET));
        }
    }

    fn poll_set(&self) -> (Vec<libc::pollfd>, Vec<Token>) {
        let (mut set, mut tokens) = (Vec::new(), Vec::new());
        let mut add = |fd: RawFd, events: libc::c_short, token: Token| {
            set.push(libc::pollfd { fd, events, revents: 0 });
            tokens.push(token);
        };
        add(self.signals.as_raw_fd(), libc::POLLIN, Token::Signals);
        if let Some(listener) = self.listener.as_ref().filter(|_| self.conns.len() < MAX_CONNECTIONS) {
            add(listener.as_raw_fd(), libc::POLLIN, Token::Listener);
        }
        for (id, conn) in &self.conns {
            let write = if conn.wants_to_write() { libc::POLLOUT } else { 0 };
            add(conn.stream.as_raw_fd(), libc::POLLIN | write, Token::Conn(*id));
        }
        for (id, container) in &self.containers {
            for (index, output) in container.outputs.iter().enumerate() {
                if let Some(source) = output.source.as_ref().filter(|_| !output.is_paused()) {
                    add(source.as_raw_fd(), libc::POLLIN, Token::Output(id.clone(), index));
                }
                for client in output.clients() {
                    let events = if client.has_backlog() { libc::POLLOUT } else { 0 };
                    add(client.pipe.as_raw_fd(), events, Token::Client(id.clone(), index, client.conn));
                }
            }
        }
        (set, tokens)
    }

    fn dispatch(&mut self, token: Token, events: libc::c_short) {
        match token {
            Token::Signals => self.signalled(),
            Token::Listener => self.accept(),
            Token::Conn(id) => self.conn_ready(id, events),
            Token::Output(id, index) => {
                if let Some(container) = self.containers.get_mut(&id)
                    && let Some(output) = container.outputs.get_mut(index)
                {
                    output.pump(container.log.as_mut());
                }
            }
            Token::Client(id, index, conn) => {
                let output = self.containers.get_mut(&id).and_then(|c| c.outputs.get_mut(index));
                if let Some(output) = output {
                    output.client_ready(conn, events & libc::POLLERR != 0);
                }
            }
        }
    }

    fn signalled(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo == Signal::SIGTERM as u32 {
                // The machine is going down: end in order, so that no exit is lost.
                self.terminating = true;
                for container in
                    self.containers.values().filter(|c| c.state.pid != 0 && c.state.exit.is_none())
                {
                    let _ = container.signal(libc::SIGKILL, false);
                }
            }
        }
        self.reap();
    }

    fn accept(&mut self) {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) {
            let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials);
            let own = nix::unistd::geteuid().as_raw();
            let is_trusted = peer.is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own);
            let Ok(conn) = Conn::new(stream) else { continue };
            if is_trusted && self.conns.len() < MAX_CONNECTIONS {
                let id = self.number();
                self.conns.insert(id, conn);
            }
        }
    }

    /// A number not used before.
    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn conn_ready(&mut self, id: ConnId, events: libc::c_short) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if events & libc::POLLOUT != 0 && conn.flush().is_err() {
            return self.close(id);
        }
        if conn.closing && !conn.wants_to_write() {
            return self.close(id);
        }
        if events & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) == 0 {
            return;
        }
        match conn.receive() {
            Received::Nothing => {}
            Received::Closed => self.close(id),
            Received::Request(request) => self.handle(id, request),
        }
    }

    /// Forgets a connection, and ends what lasts only as long as it.
    pub(super) fn close(&mut self, id: ConnId) {
        let Some(conn) = self.conns.remove(&id) else { return };
        match conn.role {
            Role::Exec(Some(pid)) if self.execs.contains_key(&pid) => {
                // SAFETY: takes numbers only; it is our child that we have not waited for.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            Role::Attach { id: container, stdin } => {
                if let Some(container) = self.containers.get_mut(&container) {
                    container.outputs.iter_mut().for_each(|output| output.detach(id));
                    if stdin && container.state.container.stdin_once {
                        container.stdin = None;
                    }
                }
            }
            _ => {}
        }
    }

    /// Answers; the connection stays for more.
    pub(super) fn tell(&mut self, id: ConnId, reply: &Reply, fds: Vec<std::os::fd::OwnedFd>) {
        if self.conns.get_mut(&id).is_some_and(|conn| conn.queue(reply, fds).is_err()) {
            self.close(id);
        }
    }

    /// Answers for the last time.
    pub(super) fn answer(&mut self, id: ConnId, reply: &Reply) {
        self.tell(id, reply, Vec::new());
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.closing = true;
        if !conn.wants_to_write() {
            self.close(id);
        }
    }

    /// Answers with an error, for the last time.
    pub(super) fn refuse(&mut self, id: ConnId, kind: ErrorKind, message: impl Into<String>) {
        self.answer(id, &Reply::Error { kind, message: message.into() });
    }

    /// Tells all subscribers.
    pub(super) fn publish(&mut self, event: Event) {
        let subscribers: Vec<ConnId> =
            self.conns.iter().filter(|(_, c)| c.role == Role::Subscriber).map(|(id, _)| *id).collect();
        let reply = Reply::Event(event);
        for id in subscribers {
            self.tell(id, &reply, Vec::new());
        }
    }

    fn timeout_ms(&self) -> libc::c_int {
        let outputs = self.containers.values().flat_map(|c| &c.outputs);
        let jobs = self.jobs.values().filter(|job| !job.timed_out).map(|job| job.deadline);
        match outputs.filter_map(super::output::Output::deadline).chain(jobs).min() {
            // One more, so as not to wake up just before.
            Some(next) => next.saturating_duration_since(Instant::now()).as_millis().min(60_000) as i32 + 1,
            None => -1,
        }
    }

    fn expire(&mut self, now: Instant) {
        for output in self.containers.values_mut().flat_map(|c| &mut c.outputs) {
            output.cut_stalled(now);
        }
        for (pid, job) in self.jobs.iter_mut().filter(|(_, job)| !job.timed_out && job.deadline <= now) {
            job.timed_out = true;
            // SAFETY: takes numbers only; it is our child that we have not waited for.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
    }
}
