//! The process that holds a pod's namespaces and owns its containers, and the client that speaks to it.
//!
//! One shim runs per pod sandbox, and outlives the CRI server that started it: it keeps the sandbox's IPC, UTS and
//! (if the pod shares it) PID namespaces, runs an OCI runtime's command line for its containers, owns their standard
//! streams and logs, reaps them, and puts every exit code on disk before it tells anyone.
//!
//! A CRI server uses [`Shim`]:
//!
//! 1. [`Shim::start`] for a new sandbox, [`Shim::connect`] for each directory that [`scan`] finds after a restart;
//!    [`clean_up_dead`] where connecting says [`Error::Gone`].
//! 2. [`Shim::subscribe`] once per shim: the state of all containers, then their exits as they happen. The stream's
//!    end means that the shim died: the sandbox is not ready and its containers are to be killed by
//!    [`clean_up_dead`].
//! 3. [`Shim::create_container`], [`Shim::start_container`], [`Shim::kill`], [`Shim::delete_container`],
//!    [`Shim::exec`], [`Shim::attach`] and so on; every call is one short connection, so calls may run side by side
//!    and may be dropped at any await.
//! 4. [`Shim::shutdown`] when the sandbox is removed.
//!
//! The shim's own process is [`main`]: no tokio, one thread, one poll loop.

/// Tells on the error stream, which may lie on a full disk: then the line is lost, and nothing else.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($arg)*);
    }};
}
use say;

mod client;
mod disk;
mod error;
mod frame;
mod server;
mod terminal;
mod wire;

pub use client::{
    AttachGuard, AttachSession, EXEC_SYNC_OUTPUT_LIMIT, Events, ExecOutput, ExecSession, FdStream, Shim,
    clean_up_dead, scan,
};
pub use error::{Error, ErrorKind};
pub use server::main;
pub use wire::{
    AttachRequest, ContainerPhase, ContainerState, CreateContainer, Event, ExecRequest, ExitStatus,
    RuntimeCommand, SandboxState, ShimConfig, TerminalSize,
};
