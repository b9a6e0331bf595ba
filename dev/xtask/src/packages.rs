//! Debian packages that the tests need beyond Rust.

use std::process::{Command, Stdio};

use crate::run::run;

/// A package, and a file that says it is there.
const NEEDED: &[(&str, &str)] = &[
    ("busybox-static", "/bin/busybox"),
    ("binutils", "/usr/bin/strip"),
    ("curl", "/usr/bin/curl"),
    ("docker-registry", "/usr/bin/docker-registry"),
    ("etcd-client", "/usr/bin/etcdctl"),
    ("etcd-server", "/usr/bin/etcd"),
    ("iproute2", "/usr/bin/ip"),
    ("nftables", "/usr/sbin/nft"),
    ("nodejs", "/usr/bin/node"),
    ("npm", "/usr/bin/npm"),
    ("openssl", "/usr/bin/openssl"),
    ("runc", "/usr/sbin/runc"),
    ("containerd", "/usr/bin/containerd"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("cpio", "/usr/bin/cpio"),
    ("kmod", "/usr/sbin/depmod"),
    ("e2fsprogs", "/usr/sbin/mke2fs"),
    ("python3-venv", "/var/lib/dpkg/info/python3-venv.list"),
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
];

/// Installs what is missing. A machine without apt, or a user who is not root, gets a note: tests that need a
/// missing program skip and say so.
pub fn install() -> anyhow::Result<()> {
    let mut missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(_, file)| !std::path::Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    // An old kubectl is better than none; a newer one that is there already stays.
    if !on_path("kubectl") {
        missing.push("kubernetes-client");
    }
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() || !on_path("apt-get") {
        eprintln!("note: not installed, tests that need them skip: {}", missing.join(" "));
        return Ok(());
    }
    run(apt().args(["update", "-qq"]))?;
    run(apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(&missing).stdout(Stdio::null()))
}

/// Installs one package that only a benchmark needs.
pub fn require(package: &str, file: &str) -> anyhow::Result<()> {
    if !std::path::Path::new(file).exists() {
        run(apt().args(["install", "-y", "-qq", "--no-install-recommends", package]).stdout(Stdio::null()))?;
    }
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// True when the process may do what tests of containers need.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}
