//! Ends of processes: of containers, of commands in them, of the runtime's own commands.

use super::conn::{ConnId, Role};
use super::container::exit_status;
use super::core::Server;
use super::jobs::{Job, Kind};
use crate::error::ErrorKind;
use crate::wire::{ContainerPhase, Event, Reply};

/// How many unclaimed ends are kept. More than one belongs to a command that is still running is unusual; the others
/// are orphans that came to us.
const MAX_UNCLAIMED: usize = 256;

/// How many different warnings of the runtime are passed on.
const MAX_WARNINGS: usize = 32;

impl Server {
    /// Takes note of every child that has ended. The runtime's commands come last, so that what they made and has
    /// ended already is known.
    pub(super) fn reap(&mut self) {
        let mut jobs = Vec::new();
        loop {
            let mut status = 0;
            // SAFETY: writes one int, which lives until the call returns.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            match pid {
                1.. => match self.jobs.remove(&pid) {
                    Some(job) => jobs.push((job, status)),
                    None => self.process_ended(pid, status),
                },
                _ => break,
            }
        }
        for (job, status) in jobs {
            self.job_ended(job, status);
        }
        if self.jobs.is_empty() {
            self.unclaimed.clear();
        }
        self.advance_shutdown();
    }

    fn process_ended(&mut self, pid: i32, status: i32) {
        let container = self.containers.iter().find(|(_, c)| c.state.pid == pid && c.state.exit.is_none());
        if let Some(id) = container.map(|(id, _)| id.clone()) {
            self.container_ended(&id, status);
        } else if let Some(conn) = self.execs.remove(&pid) {
            self.answer(conn, &Reply::Exited(exit_status(status)));
        } else if self.sandbox.init == Some(pid) {
            self.sandbox.init = None;
            let message = "the first process of the pod's PID namespace died".to_owned();
            self.publish(Event::SandboxDown { message });
        } else {
            if self.unclaimed.len() == MAX_UNCLAIMED {
                self.unclaimed.pop_front();
            }
            self.unclaimed.push_back((pid, status));
        }
    }

    fn container_ended(&mut self, id: &str, status: i32) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let exit = container.exited(status);
        container.save(&self.dir, true);
        self.publish(Event::ContainerExited { id: id.to_owned(), exit });
    }

    /// The end of a process that a command has just told of, if it has come already.
    fn claim(&mut self, pid: i32) -> Option<i32> {
        let index = self.unclaimed.iter().position(|(unclaimed, _)| *unclaimed == pid)?;
        self.unclaimed.remove(index).map(|(_, status)| status)
    }

    fn job_ended(&mut self, mut job: Job, status: i32) {
        let failure = (status != 0 || job.timed_out).then(|| job.failure(status));
        let conn = job.conn.filter(|conn| self.conns.contains_key(conn));
        let pid = job.pid();
        self.pass_on_warnings(&job);
        job.clean_up();
        let kind = std::mem::replace(&mut job.kind, Kind::Update);
        if let Some(message) = failure {
            let error = if job.timed_out { ErrorKind::DeadlineExceeded } else { ErrorKind::Runtime };
            return self.job_failed(kind, conn, error, message);
        }
        match kind {
            Kind::Create { id, console } => {
                let master = console.map(|console| console.take_master()).transpose();
                let made = pid.and_then(|pid| master.map(|master| (pid, master)));
                match made {
                    Ok((pid, master)) => self.created(&id, conn, pid, master),
                    Err(e) => {
                        let kind = Kind::Create { id, console: None };
                        self.job_failed(kind, conn, ErrorKind::Runtime, format!("OCI runtime create: {e}"));
                    }
                }
            }
            Kind::Start { id } => self.started(&id, conn),
            Kind::Delete { id } => self.deleted(&id, conn),
            Kind::Update => self.answer_if(conn, &Reply::Done),
            Kind::Exec { fds, console } => {
                let master = console.map(|console| console.take_master()).transpose();
                match pid.and_then(|pid| master.map(|master| (pid, master))) {
                    Ok((pid, master)) => {
                        let fds = master.map_or(fds, |master| vec![master]);
                        self.exec_started(conn, pid, fds);
                    }
                    Err(e) => self.refuse_if(conn, ErrorKind::Runtime, format!("OCI runtime exec: {e}")),
                }
            }
        }
    }

    /// To the shim's own messages, each text once.
    fn pass_on_warnings(&mut self, job: &Job) {
        for text in job.warnings() {
            if self.warned.len() < MAX_WARNINGS && self.warned.insert(text.clone()) {
                crate::say!("OCI runtime: {text}");
            }
        }
    }

    fn job_failed(&mut self, kind: Kind, conn: Option<ConnId>, error: ErrorKind, message: String) {
        match kind {
            Kind::Create { id, .. } => {
                // Whatever the runtime has left of it goes too.
                self.containers.remove(&id);
                if let Err(e) = crate::disk::remove_container(&self.dir, &id) {
                    crate::say!("forget container {id}: {e}");
                }
                if let Err(e) = self.spawn_delete(&id, None) {
                    crate::say!("clean up after a failed create: {e}");
                }
            }
            Kind::Start { id } => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.start_failed = true;
                    if container.state.exit.is_none() {
                        let _ = container.signal(libc::SIGKILL, false);
                    }
                }
            }
            Kind::Delete { id } => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.deleting = false;
                }
                if let Some(waiting) = self.shutdown.take() {
                    self.refuse_if(waiting, error, message.clone());
                }
            }
            Kind::Update | Kind::Exec { .. } => {}
        }
        self.refuse_if(conn, error, message);
    }

    fn created(&mut self, id: &str, conn: Option<ConnId>, pid: i32, master: Option<std::os::fd::OwnedFd>) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.created(pid);
        if let Some(Err(e)) = master.map(|master| container.set_master(master)) {
            crate::say!("take over the terminal of container {id}: {e}");
        }
        container.save(&self.dir, false);
        if self.terminating {
            let _ = container.signal(libc::SIGKILL, false);
        }
        if let Some(status) = self.claim(pid) {
            self.container_ended(id, status);
        }
        self.answer_state(id, conn);
    }

    fn started(&mut self, id: &str, conn: Option<ConnId>) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.state.started_at_ns = crate::disk::now_ns();
        let exited = container.state.phase == ContainerPhase::Exited;
        if !exited {
            container.state.phase = ContainerPhase::Running;
        } else if let Some(exit) = &container.state.exit {
            // It was quicker than the runtime's command.
            container.state.started_at_ns = container.state.started_at_ns.min(exit.finished_at_ns);
        }
        container.save(&self.dir, exited);
        self.answer_state(id, conn);
    }

    fn deleted(&mut self, id: &str, conn: Option<ConnId>) {
        let Some(mut container) = self.containers.remove(id) else { return };
        for output in &mut container.outputs {
            output.drain(container.log.as_mut());
        }
        if let Err(e) = crate::disk::remove_container(&self.dir, id) {
            crate::say!("forget container {id}: {e}");
        }
        self.answer_if(conn, &Reply::Container(Box::new(container.state)));
    }

    fn exec_started(&mut self, conn: Option<ConnId>, pid: i32, fds: Vec<std::os::fd::OwnedFd>) {
        let ended = self.claim(pid);
        let Some(id) = conn else {
            // Whoever asked for it is gone, and it with them.
            if ended.is_none() {
                // SAFETY: takes numbers only; it is our child that we have not waited for.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            return;
        };
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.role = Role::Exec(Some(pid));
        }
        if ended.is_none() {
            self.execs.insert(pid, id);
        }
        self.tell(id, &Reply::Running { pid }, fds);
        if let Some(status) = ended {
            self.answer(id, &Reply::Exited(exit_status(status)));
        }
    }

    fn answer_state(&mut self, id: &str, conn: Option<ConnId>) {
        if let (Some(conn), Some(container)) = (conn, self.containers.get(id)) {
            let reply = Reply::Container(Box::new(container.state.clone()));
            self.answer(conn, &reply);
        }
    }

    fn answer_if(&mut self, conn: Option<ConnId>, reply: &Reply) {
        if let Some(conn) = conn {
            self.answer(conn, reply);
        }
    }

    fn refuse_if(&mut self, conn: Option<ConnId>, kind: ErrorKind, message: String) {
        if let Some(conn) = conn {
            self.refuse(conn, kind, message);
        }
    }

    /// Deletes what is left, and when nothing is, says so.
    pub(super) fn advance_shutdown(&mut self) {
        let Some(waiting) = self.shutdown else { return };
        if self.containers.is_empty() && self.jobs.is_empty() {
            self.finish();
            return self.answer_if(waiting, &Reply::Done);
        }
        let ready =
            |c: &super::container::Container| !c.deleting && c.state.phase != ContainerPhase::Creating;
        let ids: Vec<String> =
            self.containers.iter().filter(|(_, c)| ready(c)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            if let Err(e) = self.spawn_delete(&id, None) {
                self.shutdown = None;
                return self.refuse_if(waiting, ErrorKind::Internal, format!("delete container {id}: {e}"));
            }
        }
    }
}
