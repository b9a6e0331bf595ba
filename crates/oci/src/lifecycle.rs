//! Commands on a container that exists: start, kill, delete, ps, update, pause, resume.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::error::{Context, Error, Result};
use crate::hooks;
use crate::init::GateOpener;
use crate::log::Log;
use crate::process::Identity;
use crate::spec::Resources;
use crate::state::{State, Status, Store};
use crate::sys;

/// How long a killed first process may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs a created container's command.
pub fn start(store: &Store, log: &Log) -> Result<()> {
    let state = store.load_complete()?;
    match store.status(&state) {
        Status::Created => {}
        Status::Stopped => {
            return Err(Error::State("cannot start a container that has stopped".to_owned()));
        }
        Status::Running | Status::Paused => {
            return Err(Error::State("cannot start an already running container".to_owned()));
        }
    }
    GateOpener::new(store.dir())?.open(store.dir())?;
    let spec = store.spec()?;
    let hook_state = store.hook_state(&spec, &state.bundle, state.init.pid, "running");
    if let Err(error) = hooks::run_all("poststart", &spec.hooks.poststart, &hook_state) {
        log.warning(&error.to_string());
    }
    Ok(())
}

/// Sends a signal to the first process, or to all.
pub fn kill(store: &Store, signal: i32, all: bool) -> Result<()> {
    let state = store.load_complete()?;
    if all {
        return state.cgroup.signal_all(signal);
    }
    let Some(process) = state.init.open() else {
        return Err(Error::State("container not running".to_owned()));
    };
    sys::pidfd_send_signal(process.as_fd(), signal).doing(|| format!("send signal {signal}"))?;
    // A frozen process dies only when it continues.
    if signal == libc::SIGKILL && state.cgroup.is_frozen() { state.cgroup.freeze(false) } else { Ok(()) }
}

/// Removes a stopped container, or with `force` any; then it is no error if there is none.
pub fn delete(store: &Store, force: bool, log: &Log) -> Result<()> {
    let state = match store.load() {
        Ok(Some(state)) => state,
        // Creation was cut short: there is a directory at most.
        Ok(None) if force => return store.remove(),
        Ok(None) => return Err(Error::State("the container is still being created".to_owned())),
        Err(Error::NotFound(_)) if force => return Ok(()),
        Err(error) => return Err(error),
    };
    let status = store.status(&state);
    if status != Status::Stopped {
        if !force {
            return Err(Error::State(format!(
                "cannot delete a container that is not stopped: {}",
                status.word()
            )));
        }
        end(&state.init, || kill(store, libc::SIGKILL, false))?;
    }
    // What shares another PID namespace does not die with the first process.
    state.cgroup.kill_all()?;
    state.cgroup.remove()?;
    let spec = store.spec();
    store.remove()?;
    if let Ok(spec) = spec {
        let hook_state = store.hook_state(&spec, &state.bundle, 0, "stopped");
        if let Err(error) = hooks::run_all("poststop", &spec.hooks.poststop, &hook_state) {
            log.warning(&error.to_string());
        }
    }
    Ok(())
}

fn end(init: &Identity, kill: impl FnOnce() -> Result<()>) -> Result<()> {
    let Some(process) = init.open() else { return Ok(()) };
    if let Err(error) = kill() {
        return if init.is_alive() { Err(error) } else { Ok(()) };
    }
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(KILL_TIMEOUT.as_millis()).unwrap_or(PollTimeout::MAX);
    match nix::poll::poll(&mut fds, limit) {
        Ok(0) => Err(Error::State(format!("process {} is alive {KILL_TIMEOUT:?} after SIGKILL", init.pid))),
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(e) => Err(e).doing(|| "wait for the container's end".to_owned()),
    }
}

/// The numbers of all processes.
pub fn ps(store: &Store) -> Result<Vec<i32>> {
    store.load_complete()?.cgroup.processes()
}

/// Changes limits; `resources` is a file, or `-` for standard input.
pub fn update(store: &Store, resources: &Path) -> Result<()> {
    let state = running(store)?;
    let text = if resources == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).doing(|| "read the resources".to_owned())?
    } else {
        std::fs::read_to_string(resources).doing(|| format!("read {}", resources.display()))?
    };
    let resources: Resources =
        serde_json::from_str(&text).map_err(|e| Error::Invalid(format!("resources: {e}")))?;
    state.cgroup.apply(&resources)?;
    // As other runtimes do, device rules stay unless new ones come.
    if resources.devices.is_empty() { Ok(()) } else { state.cgroup.apply_devices(&resources) }
}

/// Freezes or continues all processes.
pub fn freeze(store: &Store, frozen: bool) -> Result<()> {
    running(store)?.cgroup.freeze(frozen)
}

fn running(store: &Store) -> Result<State> {
    let state = store.load_complete()?;
    match store.status(&state) {
        Status::Stopped => Err(Error::State("container not running".to_owned())),
        _ => Ok(state),
    }
}
