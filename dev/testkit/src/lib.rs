//! Whole-cluster stories: real processes, real containers, network namespaces of their own.
//!
//! A story starts a [`Cluster`] and speaks to it with `kubectl` as a user does. Dropping a cluster removes every trace
//! of it, also when the story failed.

mod cluster;
mod image;
mod machine;
mod process;
mod registry;
pub mod vm;

pub use cluster::Cluster;
pub use image::{Image, busybox};
pub use machine::{Lan, Machine};
pub use process::{Output, Run, find_program, wait_until};
pub use registry::Registry;

use std::path::{Path, PathBuf};

/// The binary under test: `$CORTEN_BIN`, else the debug build of this workspace.
pub fn corten_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("CORTEN_BIN") {
        return PathBuf::from(path);
    }
    // Beside the test executables: target/debug/deps/story-… → target/debug/corten.
    let deps =
        std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)).unwrap_or_default();
    deps.parent().unwrap_or(&deps).join("corten")
}

/// True if stories can run here. Prints what is missing otherwise, and the story is skipped.
pub fn can_run() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let binary = corten_binary();
    let needs = [
        (root, "root".to_owned()),
        (binary.is_file(), format!("the binary {} (cargo build --package corten)", binary.display())),
        (Path::new("/bin/busybox").is_file(), "busybox-static".to_owned()),
        (process::on_path("ip"), "iproute2".to_owned()),
        (process::on_path("kubectl"), "kubectl".to_owned()),
    ];
    let missing: Vec<String> = needs.into_iter().filter(|(has, _)| !has).map(|(_, what)| what).collect();
    if !missing.is_empty() {
        println!("skipped, needs {}", missing.join(", "));
    }
    missing.is_empty()
}
