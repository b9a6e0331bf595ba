//! What clients ask for.

use std::io;
use std::os::fd::OwnedFd;

use super::conn::{ConnId, Role};
use super::container::Container;
use super::core::Server;
use super::jobs::{Kind, Plan};
use super::log_file::Source;
use super::output::client_pipe;
use super::pipes::{Pipe, null};
use crate::error::ErrorKind;
use crate::wire::{
    AttachRequest, ContainerPhase, CreateContainer, ExecRequest, Op, PROTOCOL_VERSION, Reply, Request,
    SandboxState,
};

/// The most containers of a pod, deleted ones aside.
const MAX_CONTAINERS: usize = 256;

/// An error to answer with.
type Refusal = (ErrorKind, String);

impl Server {
    /// Does what is asked for, or starts to.
    pub(super) fn handle(&mut self, conn: ConnId, request: Request) {
        if request.version != PROTOCOL_VERSION {
            let text = format!("protocol version {}; this shim speaks {PROTOCOL_VERSION}", request.version);
            return self.refuse(conn, ErrorKind::InvalidArgument, text);
        }
        if let Some(known) = self.conns.get_mut(&conn) {
            known.role = Role::Waiting;
        }
        if let Err((kind, message)) = self.perform(conn, request.op) {
            self.refuse(conn, kind, message);
        }
    }

    fn perform(&mut self, conn: ConnId, op: Op) -> Result<(), Refusal> {
        match op {
            Op::State => self.answer(conn, &Reply::State(Box::new(self.sandbox_state()))),
            Op::Subscribe => {
                if let Some(known) = self.conns.get_mut(&conn) {
                    known.role = Role::Subscriber;
                }
                let state = self.sandbox_state();
                self.tell(conn, &Reply::State(Box::new(state)), Vec::new());
            }
            Op::Create(request) => self.create(conn, request)?,
            Op::Start { id } => self.start(conn, &id)?,
            Op::Kill { id, signal, all } => self.kill(conn, &id, signal, all)?,
            Op::Delete { id, force } => self.delete(conn, &id, force)?,
            Op::Update { id, resources } => self.update(conn, &id, &resources)?,
            Op::Exec(request) => self.exec(conn, &request)?,
            Op::Attach(request) => self.attach(conn, &request)?,
            Op::Resize { id, size } => {
                self.container(&id)?.resize(size).map_err(precondition)?;
                self.answer(conn, &Reply::Done);
            }
            Op::CloseStdin { id } => {
                self.container(&id)?.stdin = None;
                self.answer(conn, &Reply::Done);
            }
            Op::ReopenLog { id } => {
                if let Some(log) = &mut self.container(&id)?.log {
                    log.reopen().map_err(|e| (ErrorKind::Internal, format!("reopen the log: {e}")))?;
                }
                self.answer(conn, &Reply::Done);
            }
            Op::Shutdown => {
                self.shutdown = Some(Some(conn));
                self.advance_shutdown();
            }
        }
        Ok(())
    }

    fn container(&mut self, id: &str) -> Result<&mut Container, Refusal> {
        let missing = || (ErrorKind::NotFound, format!("container {id} not found"));
        self.containers.get_mut(id).ok_or_else(missing)
    }

    /// The container, if it is in one of these phases and stays.
    fn container_in(&mut self, id: &str, phases: &[ContainerPhase]) -> Result<&mut Container, Refusal> {
        let container = self.container(id)?;
        let phase = container.state.phase;
        if phases.contains(&phase) && !container.deleting {
            return Ok(container);
        }
        let state = if container.deleting { "being deleted".to_owned() } else { format!("{phase:?}") };
        Err((ErrorKind::FailedPrecondition, format!("container {id} is {}", state.to_lowercase())))
    }

    fn sandbox_state(&self) -> SandboxState {
        SandboxState {
            sandbox_id: self.config.sandbox_id.clone(),
            shim_pid: std::process::id() as i32,
            started_at_ns: self.started_at_ns,
            ready: self.shutdown.is_none() && (self.sandbox.init.is_some() || self.sandbox.pid.is_none()),
            ipc_ns: self.sandbox.ipc.clone(),
            uts_ns: self.sandbox.uts.clone(),
            pid_ns: self.sandbox.pid.clone(),
            containers: self.containers.iter().map(|(id, c)| (id.clone(), c.state.clone())).collect(),
        }
    }

    fn create(&mut self, conn: ConnId, request: CreateContainer) -> Result<(), Refusal> {
        let id = request.id.clone();
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if id.is_empty() || id.starts_with('.') || !id.chars().all(plain) {
            return Err((ErrorKind::InvalidArgument, format!("container id {id:?}")));
        }
        if self.containers.contains_key(&id) {
            return Err((ErrorKind::AlreadyExists, format!("container {id} exists already")));
        }
        if self.containers.len() == MAX_CONTAINERS {
            return Err((ErrorKind::ResourceExhausted, format!("the pod has {MAX_CONTAINERS} containers")));
        }
        if self.shutdown.is_some() {
            return Err((ErrorKind::FailedPrecondition, "the sandbox is shutting down".to_owned()));
        }
        let plan = self.plan()?.arg("--bundle").arg(&request.bundle).pid_file();
        let (plan, console) = with_console(plan, request.tty)?;
        let (container, streams) =
            Container::new(request).map_err(internal("make the container's streams"))?;
        container.save(&self.dir, false);
        let kind = Kind::Create { id: id.clone(), console };
        self.spawn(plan.streams(streams), kind, &id, Some(conn))?;
        self.containers.insert(id, container);
        Ok(())
    }

    fn start(&mut self, conn: ConnId, id: &str) -> Result<(), Refusal> {
        self.container_in(id, &[ContainerPhase::Created])?;
        let plan = self.plan()?;
        self.spawn(plan, Kind::Start { id: id.to_owned() }, id, Some(conn))
    }

    fn kill(&mut self, conn: ConnId, id: &str, signal: i32, all: bool) -> Result<(), Refusal> {
        use ContainerPhase::{Created, Exited, Running};
        let container = self.container_in(id, &[Created, Running, Exited])?;
        if container.state.phase != Exited || all {
            container.signal(signal, all).map_err(internal("signal the container"))?;
        }
        self.answer(conn, &Reply::Done);
        Ok(())
    }

    fn delete(&mut self, conn: ConnId, id: &str, force: bool) -> Result<(), Refusal> {
        use ContainerPhase::{Created, Exited, Running};
        let phases: &[ContainerPhase] = if force { &[Created, Running, Exited] } else { &[Exited] };
        self.container_in(id, phases)?;
        self.spawn_delete(id, Some(conn)).map_err(internal("delete the container"))
    }

    /// Has the runtime kill and delete a container.
    pub(super) fn spawn_delete(&mut self, id: &str, conn: Option<ConnId>) -> io::Result<()> {
        let number = self.number();
        let plan = Plan::new(&self.jobs_dir, number)?.arg("--force");
        let (pid, job) = plan.spawn(&self.config.runtime, Kind::Delete { id: id.to_owned() }, id, conn)?;
        self.jobs.insert(pid, job);
        if let Some(container) = self.containers.get_mut(id) {
            container.deleting = true;
        }
        Ok(())
    }

    fn update(&mut self, conn: ConnId, id: &str, resources: &serde_json::Value) -> Result<(), Refusal> {
        self.container_in(id, &[ContainerPhase::Created, ContainerPhase::Running])?;
        let plan = self
            .plan()?
            .file_arg("--resources", "resources.json", resources.to_string().as_bytes())
            .map_err(internal("write the resources"))?;
        self.spawn(plan, Kind::Update, id, Some(conn))
    }

    fn exec(&mut self, conn: ConnId, request: &ExecRequest) -> Result<(), Refusal> {
        let id = &request.container_id;
        self.container_in(id, &[ContainerPhase::Running])?;
        if let Some(known) = self.conns.get_mut(&conn) {
            known.role = Role::Exec(None);
        }
        let plan = self
            .plan()?
            .arg("--detach")
            .file_arg("--process", "process.json", request.process.to_string().as_bytes())
            .map_err(internal("write the process"))?
            .pid_file();
        let (plan, console) = with_console(plan, request.tty)?;
        let (streams, fds) = exec_streams(request).map_err(internal("make the command's streams"))?;
        self.spawn(plan.streams(streams), Kind::Exec { fds, console }, id, Some(conn))
    }

    fn attach(&mut self, conn: ConnId, request: &AttachRequest) -> Result<(), Refusal> {
        let id = &request.container_id;
        let container = self.container_in(id, &[ContainerPhase::Created, ContainerPhase::Running])?;
        let tty = container.state.container.tty;
        let make = internal("make the session's streams");
        let (mut fds, mut stdin) = (Vec::new(), false);
        let input = container.stdin.as_ref().or(container.master.as_ref());
        if let Some(input) = input.filter(|_| request.stdin && container.state.container.stdin) {
            fds.push(input.try_clone().map_err(&make)?);
            stdin = true;
        }
        for (wanted, kind) in [(request.stdout, Source::Stdout), (request.stderr && !tty, Source::Stderr)] {
            if wanted {
                let (reader, writer) = client_pipe().map_err(&make)?;
                fds.push(reader);
                if let Some(output) = container.outputs.iter_mut().find(|o| o.kind == kind) {
                    output.attach(conn, writer);
                }
            }
        }
        if let Some(known) = self.conns.get_mut(&conn) {
            known.role = Role::Attach { id: id.clone(), stdin };
        }
        self.tell(conn, &Reply::Streams { tty, stdin }, fds);
        Ok(())
    }

    fn plan(&mut self) -> Result<Plan, Refusal> {
        let number = self.number();
        Plan::new(&self.jobs_dir, number).map_err(internal("make a folder for the runtime"))
    }

    fn spawn(&mut self, plan: Plan, kind: Kind, id: &str, conn: Option<ConnId>) -> Result<(), Refusal> {
        let (pid, job) =
            plan.spawn(&self.config.runtime, kind, id, conn).map_err(internal("run the OCI runtime"))?;
        self.jobs.insert(pid, job);
        Ok(())
    }
}

fn with_console(plan: Plan, tty: bool) -> Result<(Plan, Option<super::pipes::ConsoleSocket>), Refusal> {
    if !tty {
        return Ok((plan, None));
    }
    let (plan, console) = plan.console().map_err(internal("make a console socket"))?;
    Ok((plan, Some(console)))
}

/// The command's standard streams, and our ends of those that are asked for.
fn exec_streams(request: &ExecRequest) -> io::Result<([OwnedFd; 3], Vec<OwnedFd>)> {
    let mut fds = Vec::new();
    let mut one = |wanted: bool, is_input: bool| -> io::Result<OwnedFd> {
        if !wanted || request.tty {
            return null();
        }
        let pipe = Pipe::new()?;
        let (theirs, ours) = if is_input { (pipe.reader, pipe.writer) } else { (pipe.writer, pipe.reader) };
        fds.push(ours);
        Ok(theirs)
    };
    let streams = [one(request.stdin, true)?, one(request.stdout, false)?, one(request.stderr, false)?];
    Ok((streams, fds))
}

fn internal(doing: &'static str) -> impl Fn(io::Error) -> Refusal {
    move |e| (ErrorKind::Internal, format!("{doing}: {e}"))
}

fn precondition(e: io::Error) -> Refusal {
    (ErrorKind::FailedPrecondition, e.to_string())
}
