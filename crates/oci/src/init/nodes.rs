//! Device nodes, links in `/dev`, and paths that are hidden or protected.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, makedev};

use super::mounts::{attach, open_path};
use crate::error::{Context, Error, Result};
use crate::rootfs::{Missing, Rootfs, is_directory, stat};
use crate::spec::{Device, Spec};
use crate::sys;

/// In every container: name, major and minor number.
const DEFAULTS: [(&str, i64, i64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];
const DEFAULT_MODE: u32 = 0o666;

/// Fills `/dev`, unless it is the host's.
pub(super) fn fill_dev(rootfs: &Rootfs, spec: &Spec) -> Result<()> {
    let is_dev = |path: &str| path.trim_end_matches('/') == "/dev";
    if spec.mounts.iter().any(|m| is_dev(&m.destination) && m.is_bind()) {
        return Ok(());
    }
    for (path, major, minor) in DEFAULTS {
        let kind = "c".to_owned();
        make_node(rootfs, &Device { path: path.to_owned(), kind, major, minor, ..Device::default() })?;
    }
    for device in &spec.linux.devices {
        make_node(rootfs, device)?;
    }
    for (target, path) in LINKS {
        link(rootfs, target, path)?;
    }
    if rootfs.find("/proc/kcore")?.is_some() {
        link(rootfs, "/proc/kcore", "/dev/core")?;
    }
    let (dev, name) = rootfs.make_parent("/dev/ptmx")?;
    match nix::unistd::unlinkat(&dev, name, nix::unistd::UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::Error::ENOENT) => {}
        Err(e) => return Err(e).doing(|| "replace /dev/ptmx".to_owned()),
    }
    link(rootfs, "pts/ptmx", "/dev/ptmx")
}

fn link(rootfs: &Rootfs, target: &str, path: &str) -> Result<()> {
    let (dir, name) = rootfs.make_parent(path)?;
    match nix::unistd::symlinkat(target, &dir, name) {
        Ok(()) | Err(nix::Error::EEXIST) => Ok(()),
        Err(e) => Err(e).doing(|| format!("link {path} to {target}")),
    }
}

fn make_node(rootfs: &Rootfs, device: &Device) -> Result<()> {
    let path = &device.path;
    let kind = match device.kind.as_str() {
        "c" | "u" => SFlag::S_IFCHR,
        "b" => SFlag::S_IFBLK,
        "p" => SFlag::S_IFIFO,
        other => return Err(Error::Invalid(format!("device {path} of type {other:?}"))),
    };
    let number = if kind == SFlag::S_IFIFO { 0 } else { makedev(device.major as u64, device.minor as u64) };
    let mode = Mode::from_bits_truncate(device.file_mode.unwrap_or(DEFAULT_MODE) & 0o7777);
    let (dir, name) = rootfs.make_parent(path)?;
    match nix::sys::stat::mknodat(&dir, name, kind, mode, number) {
        Ok(()) => {}
        Err(nix::Error::EEXIST) => return same_node(&dir, name, kind, number, path),
        Err(nix::Error::EPERM) => return bind_node(rootfs, path, kind, number),
        Err(e) => return Err(e).doing(|| format!("make device {path}")),
    }
    let owner = nix::unistd::Uid::from_raw(device.uid.unwrap_or(0));
    let group = nix::unistd::Gid::from_raw(device.gid.unwrap_or(0));
    let nofollow = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    nix::unistd::fchownat(&dir, name, Some(owner), Some(group), nofollow)
        .doing(|| format!("change the owner of {path}"))
}

/// A node may be there already, from the image or because the specification names a usual one again.
fn same_node(dir: &OwnedFd, name: &std::ffi::OsStr, kind: SFlag, number: u64, path: &str) -> Result<()> {
    let found = sys::openat2(dir, Path::new(name), libc::O_PATH | libc::O_NOFOLLOW, 0, 0)
        .and_then(stat)
        .doing(|| format!("stat {path}"))?;
    if found.st_mode & SFlag::S_IFMT.bits() == kind.bits() && found.st_rdev == number {
        return Ok(());
    }
    Err(Error::Invalid(format!("{path} exists in the rootfs and is not the device that is wanted there")))
}

/// Where nodes cannot be made, the host's is made visible.
fn bind_node(rootfs: &Rootfs, path: &str, kind: SFlag, number: u64) -> Result<()> {
    let host = open_path(Path::new(path))?;
    let found = stat(&host).doing(|| format!("stat {path}"))?;
    if found.st_mode & SFlag::S_IFMT.bits() != kind.bits() || found.st_rdev != number {
        return Err(Error::Invalid(format!("the host's {path} is another device")));
    }
    bind_on(&host, &rootfs.make(path, Missing::File)?, path)
}

fn bind_on(source: &OwnedFd, target: &OwnedFd, path: &str) -> Result<()> {
    let tree = sys::clone_mount(source, false).doing(|| format!("clone a mount for {path}"))?;
    attach(&tree, target)
}

/// Binds a terminal's slave on `/dev/console`.
pub(super) fn bind_console(rootfs: &Rootfs, slave: &OwnedFd) -> Result<()> {
    bind_on(slave, &rootfs.make("/dev/console", Missing::File)?, "/dev/console")
}

/// Covers files with the null device and directories with an empty, read-only one.
pub(super) fn mask(rootfs: &Rootfs, paths: &[String]) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let null = open_path(Path::new("/dev/null"))?;
    let found = stat(&null).doing(|| "stat /dev/null".to_owned())?;
    if found.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFCHR.bits() || found.st_rdev != makedev(1, 3) {
        return Err(Error::Invalid("the host's /dev/null is not the null device".to_owned()));
    }
    for path in paths {
        let Some(target) = rootfs.find(path)? else { continue };
        if is_directory(&target).doing(|| format!("stat {path}"))? {
            let empty = sys::new_mount("tmpfs", "tmpfs", &[], sys::MOUNT_ATTR_RDONLY)
                .doing(|| format!("mask {path}"))?;
            attach(&empty, &target)?;
        } else {
            bind_on(&null, &target, path)?;
        }
    }
    Ok(())
}

/// Makes paths read-only, with everything below.
pub(super) fn protect(rootfs: &Rootfs, paths: &[String]) -> Result<()> {
    for path in paths {
        let Some(target) = rootfs.find(path)? else { continue };
        let tree = sys::clone_mount(&target, true).doing(|| format!("clone {path}"))?;
        set_readonly(&tree, true, path)?;
        attach(&tree, &target)?;
    }
    Ok(())
}

/// Makes a mount read-only.
pub(super) fn set_readonly(mount: impl AsFd, recursive: bool, path: &str) -> Result<()> {
    sys::set_mount_attr(mount, sys::MOUNT_ATTR_RDONLY, 0, 0, recursive)
        .doing(|| format!("make {path} read-only (needs Linux 5.12)"))
}
