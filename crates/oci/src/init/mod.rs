//! What happens in the new process, from the fork to the exec of the container's command.
//!
//! The process has a [`Channel`] to the runtime that forked it. It reports every failure there; a first process of a
//! container then waits at its [`Gate`] for `start`, and reports what still fails to that.

mod capabilities;
mod channel;
mod console;
mod credentials;
mod gate;
mod launch;
mod mounts;
mod nodes;
mod options;
mod setup;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::cgroup::Cgroup;
use crate::error::{Context, Error, Result};
use crate::hooks::HookState;
use crate::log::Log;
use crate::seccomp::Filter;
use crate::spec::{NamespaceKind, Process, Spec};

pub use channel::{Channel, FromInit, ToInit, channel};
pub use console::connect as connect_console;
pub use gate::{Gate, GateOpener, make_files as make_gate_files};

/// What both sorts of process need.
#[derive(Debug)]
pub struct Common {
    /// The container's id.
    pub id: String,
    /// To the runtime.
    pub channel: Channel,
    /// Where a terminal's master is sent.
    pub console: Option<OwnedFd>,
    /// How many descriptors from 3 on the command inherits.
    pub preserve_fds: u32,
    /// The system call filter, compiled before the fork.
    pub filter: Option<Filter>,
    /// Namespaces to join.
    pub join: Vec<(NamespaceKind, OwnedFd)>,
    /// For warnings.
    pub log: Log,
}

/// The first process of a container.
#[derive(Debug)]
pub struct First {
    /// What both sorts need.
    pub common: Common,
    /// The configuration.
    pub spec: Spec,
    /// Where `config.json` is.
    pub bundle: PathBuf,
    /// The root file system on the host.
    pub rootfs: PathBuf,
    /// The container's group.
    pub cgroup: Cgroup,
    /// Held until `start`.
    pub gate: Gate,
    /// Where pivot_root does not work: an initial RAM disk.
    pub no_pivot: bool,
    /// What hooks are told.
    pub hook_state: HookState,
}

/// Runs a first process to the exec; comes back only with an error, which nobody else knows of yet.
pub fn first(mut init: First) -> i32 {
    match setup::prepare(&mut init) {
        Ok(launch) => {
            // From here on the runtime that created us may be gone; `start` wants to know.
            if init.common.channel.send(&FromInit::Ready).is_err() {
                return FAILED;
            }
            drop(init.common.channel);
            let Ok(result) = init.gate.wait() else { return FAILED };
            let hooks = &init.spec.hooks.start_container;
            let hooks = crate::hooks::run_all("startContainer", hooks, &init.hook_state);
            let Err(error) = hooks.and_then(|()| launch.exec());
            result.report(&error);
        }
        Err(error) => init.common.channel.report(&error),
    }
    FAILED
}

/// Runs a further process of a container to the exec.
pub fn further(common: Common, process: &Process) -> i32 {
    let launch = || -> Result<std::convert::Infallible> {
        common.begin()?;
        join_namespaces(&common.join)?;
        setup::new_session(&common.id)?;
        if process.terminal {
            console::set_up(None, common.console.as_ref(), process)?;
        }
        setup::limits(process, &common.log)?;
        launch::prepare(&common, process)?.exec()
    };
    let Err(error) = launch();
    common.channel.report(&error);
    FAILED
}

/// The exit code of a process that could not become the container's command, as container engines know it.
const FAILED: i32 = 128;

impl Common {
    /// Waits until the runtime has put the process into its cgroup.
    fn begin(&self) -> Result<()> {
        setup::reset_signals();
        match self.channel.receive::<ToInit>()? {
            Some(ToInit::Go) => Ok(()),
            _ => Err(Error::State("the runtime died".to_owned())),
        }
    }
}

/// Joins namespaces other than PID, which only children can be born into. The mount namespace goes last, because the
/// others' files may be visible only before.
fn join_namespaces(namespaces: &[(NamespaceKind, OwnedFd)]) -> Result<()> {
    let (last, first): (Vec<_>, Vec<_>) =
        namespaces.iter().partition(|(kind, _)| *kind == NamespaceKind::Mount);
    for (kind, file) in first.into_iter().chain(last).filter(|(kind, _)| *kind != NamespaceKind::Pid) {
        let flag = nix::sched::CloneFlags::from_bits_truncate(kind.flag());
        nix::sched::setns(file, flag).doing(|| format!("join the {} namespace", kind.file()))?;
    }
    Ok(())
}
