//! The mounts of the specification.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::options::MountOptions;
use crate::cgroup::{Cgroup, Hierarchies, Version};
use crate::error::{Context, Error, Result};
use crate::rootfs::{Missing, Rootfs, is_directory, stat};
use crate::spec::Mount;
use crate::sys;

/// What mounts are made from.
pub(super) struct Mounter<'a> {
    pub(super) rootfs: &'a Rootfs,
    pub(super) bundle: &'a Path,
    pub(super) cgroup: &'a Cgroup,
    /// The container has a cgroup namespace of its own.
    pub(super) cgroup_namespace: bool,
}

/// Mounts that become read-only only when the root is complete, since nodes are still to be made on them.
pub(super) type Deferred = Vec<(OwnedFd, u64)>;

impl Mounter<'_> {
    /// Makes all mounts in order.
    pub(super) fn mount_all(&self, mounts: &[Mount]) -> Result<Deferred> {
        let mut deferred = Deferred::new();
        for mount in mounts {
            let options = MountOptions::parse(&mount.options)?;
            self.mount(mount, &options, &mut deferred).map_err(|e| describe(mount, e))?;
        }
        Ok(deferred)
    }

    fn mount(&self, mount: &Mount, options: &MountOptions, deferred: &mut Deferred) -> Result<()> {
        if mount.is_bind() {
            return self.bind(mount, options);
        }
        match mount.kind.as_str() {
            "cgroup" => self.cgroup(mount, options),
            "proc" | "sysfs" | "mqueue" | "devpts" => self.filesystem(mount, options).map(drop),
            // Nodes are made in /dev, and /run may hold /run/secrets, before it closes.
            "tmpfs" => {
                let open = MountOptions { set: options.set & !sys::MOUNT_ATTR_RDONLY, ..options.clone() };
                let made = self.filesystem(mount, &open)?;
                if options.set & sys::MOUNT_ATTR_RDONLY != 0 {
                    deferred.push((made, sys::MOUNT_ATTR_RDONLY));
                }
                Ok(())
            }
            _ => self.filesystem(mount, options).map(drop),
        }
    }

    fn bind(&self, mount: &Mount, options: &MountOptions) -> Result<()> {
        let source = self.bundle.join(&mount.source);
        let from = open_path(&source)?;
        let missing = if is_directory(&from).doing(|| format!("stat {}", source.display()))? {
            Missing::Directory
        } else {
            Missing::File
        };
        let tree = sys::clone_mount(&from, options.recursive_bind)
            .doing(|| format!("clone {}", source.display()))?;
        let target = self.target(&mount.destination, missing)?;
        finish(&tree, &target, options)
    }

    fn filesystem(&self, mount: &Mount, options: &MountOptions) -> Result<OwnedFd> {
        let target = self.target(&mount.destination, Missing::Directory)?;
        let mut data = options.data.clone();
        if mount.kind == "tmpfs" && !data.iter().any(|o| o.starts_with("mode=")) {
            // The mount looks as what it covers.
            let mode = stat(&target).doing(|| "stat the mount point".to_owned())?.st_mode & 0o7777;
            data.push(format!("mode={mode:o}"));
        }
        let made = sys::new_mount(&mount.kind, &mount.source, &data, options.set)
            .doing(|| format!("make a {} file system", mount.kind))?;
        finish(&made, &target, &MountOptions { set: 0, clear: 0, ..options.clone() })?;
        Ok(made)
    }

    /// The mount point. Where the kernel's own file systems go no link may lead, since what the runtime later finds
    /// there it trusts.
    fn target(&self, destination: &str, missing: Missing) -> Result<OwnedFd> {
        let target = self.rootfs.make(destination, missing)?;
        if ["/proc", "/sys"].contains(&destination.trim_end_matches('/')) {
            let plain = sys::openat2(
                self.rootfs.fd(),
                Path::new(destination.trim_matches('/')),
                libc::O_PATH | libc::O_DIRECTORY,
                0,
                sys::RESOLVE_IN_ROOT | sys::RESOLVE_NO_SYMLINKS,
            );
            return plain.doing(|| format!("{destination} must be an ordinary directory"));
        }
        Ok(target)
    }

    fn cgroup(&self, mount: &Mount, options: &MountOptions) -> Result<()> {
        match self.cgroup.version() {
            Version::V2 => {
                let target = self.target(&mount.destination, Missing::Directory)?;
                let made = self.one_hierarchy("", "cgroup2", &[])?;
                finish(&made, &target, options)
            }
            Version::V1 => self.cgroup_v1(mount, options),
        }
    }

    /// A directory with every hierarchy in a directory of its own, named as on the host.
    fn cgroup_v1(&self, mount: &Mount, options: &MountOptions) -> Result<()> {
        let frame = Mount { kind: "tmpfs".to_owned(), source: "tmpfs".to_owned(), ..mount.clone() };
        let tmpfs_options = MountOptions {
            set: options.set & !sys::MOUNT_ATTR_RDONLY,
            data: vec!["mode=755".to_owned()],
            ..options.clone()
        };
        let tmpfs = self.filesystem(&frame, &tmpfs_options)?;
        let inside = Rootfs::new(tmpfs);
        for (name, controllers) in hierarchy_names(&Hierarchies::detect()?) {
            let target = inside.make(&name, Missing::Directory)?;
            let made = self.one_hierarchy(&controllers[0], "cgroup", &controllers)?;
            finish(&made, &target, options)?;
            for alias in controllers.iter().filter(|c| **c != name && !c.starts_with("name=")) {
                let linked = nix::unistd::symlinkat(name.as_str(), inside.fd(), alias.as_str());
                linked.doing(|| format!("link {alias} to {name}"))?;
            }
        }
        sys::set_mount_attr(inside.fd(), options.set, options.clear, 0, false)
            .doing(|| "protect the cgroup mount".to_owned())
    }

    /// With a cgroup namespace the kernel shows the container's own group as the root; without, that group is bound.
    fn one_hierarchy(&self, controller: &str, kind: &str, controllers: &[String]) -> Result<OwnedFd> {
        if self.cgroup_namespace {
            let named = controllers.iter().any(|c| c.starts_with("name="));
            let none = named.then(|| "none".to_owned());
            let data: Vec<String> = none.into_iter().chain(controllers.iter().cloned()).collect();
            return sys::new_mount(kind, "cgroup", &data, 0)
                .doing(|| format!("mount the {controller} cgroup"));
        }
        let dir = self.cgroup.dir(controller).unwrap_or_default();
        let from = open_path(&dir)?;
        sys::clone_mount(&from, true).doing(|| format!("clone {}", dir.display()))
    }
}

/// Hierarchies by the name of their mount point, with the controllers in each.
fn hierarchy_names(hierarchies: &Hierarchies) -> Vec<(String, Vec<String>)> {
    let mut names: Vec<(String, Vec<String>)> = Vec::new();
    for (controller, root) in hierarchies.roots() {
        let name = root.file_name().and_then(|n| n.to_str()).unwrap_or(controller).to_owned();
        match names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, controllers)) => controllers.push(controller.to_owned()),
            None => names.push((name, vec![controller.to_owned()])),
        }
    }
    names
}

/// Puts a detached mount in its place, and gives it its attributes before anyone can see it.
fn finish(mount: &OwnedFd, target: &OwnedFd, options: &MountOptions) -> Result<()> {
    let doing = |what: &str| format!("{what} (needs Linux 5.12)");
    if options.set | options.clear != 0 {
        sys::set_mount_attr(mount, options.set, options.clear, 0, false)
            .doing(|| doing("set mount flags"))?;
    }
    if options.recursive_set | options.recursive_clear != 0 {
        sys::set_mount_attr(mount, options.recursive_set, options.recursive_clear, 0, true)
            .doing(|| doing("set mount flags recursively"))?;
    }
    for (propagation, recursive) in &options.propagation {
        sys::set_mount_attr(mount, 0, 0, *propagation, *recursive)
            .doing(|| doing("set mount propagation"))?;
    }
    attach(mount, target)
}

/// Puts a detached mount in its place.
pub(super) fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    sys::attach_mount(mount, target).doing(|| "attach the mount".to_owned())
}

/// A mere reference to a path of the host.
pub(super) fn open_path(path: &Path) -> Result<OwnedFd> {
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
    Ok(file.doing(|| format!("open {}", path.display()))?.into())
}

/// The mount point that an open file of the host lies below.
pub(super) fn mount_point(fd: &OwnedFd) -> Result<PathBuf> {
    use std::os::fd::AsRawFd;
    let info = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = std::fs::read_to_string(&info).doing(|| format!("read {info}"))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")).map_or("", str::trim);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").doing(|| "read mountinfo".to_owned())?;
    mounts
        .lines()
        .find(|line| line.split(' ').next() == Some(id))
        .and_then(|line| line.split(' ').nth(4))
        .map(unescape)
        .ok_or_else(|| Error::Invalid(format!("mount {id} of the rootfs is not in mountinfo")))
}

/// mountinfo writes spaces and the like as `\040`.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

fn describe(mount: &Mount, error: Error) -> Error {
    match error {
        Error::Sys { doing, source } => Error::Sys {
            doing: format!("error mounting {:?} to rootfs at {:?}: {doing}", mount.source, mount.destination),
            source,
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape("/a\\040b\\134c"), Path::new("/a b\\c"));
        assert_eq!(unescape("/plain\\0"), Path::new("/plain\\0"));
    }
}
