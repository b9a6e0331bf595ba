//! The OCI runtime entry: create, start, exec, kill and delete of one container, single-threaded.
//!
//! [`main`] is `corten oci`, command-line compatible with the part of runc that container engines use. It must run in
//! a process with one thread, since it forks into namespaces. The control group code, [`cgroup`], is of use to others.
//!
//! What happens in `create`: [`seal`] re-enters the executable through a read-only mount; [`create`] makes the state
//! directory and the cgroup and forks; the child ([`init`]) makes namespaces and the root file system, gives up its
//! privileges and waits at its gate; `start` opens the gate, and the child executes the container's command.

pub mod cgroup;
pub mod spec;

mod cli;
mod create;
mod error;
mod exec;
mod hooks;
mod init;
mod lifecycle;
mod log;
mod process;
mod rootfs;
mod seal;
mod seccomp;
mod state;
mod sys;

pub use cli::main;
pub use error::{Error, Result};
