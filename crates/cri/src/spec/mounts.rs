//! What is mounted into a container.

use std::fs;
use std::path::{Path, PathBuf};

use proto::cri::v1::{Mount, MountPropagation};
use serde_json::{Value, json};

use super::SpecInput;
use crate::error::{Error, Result};

/// Files of a pod that every container of it gets; `None` are not mounted.
#[derive(Debug, Clone, Default)]
pub struct PodFiles {
    /// The pod's host name, for `$HOSTNAME`.
    pub hostname: String,
    /// For `/etc/hostname`.
    pub hostname_file: Option<PathBuf>,
    /// For `/etc/hosts`.
    pub hosts: Option<PathBuf>,
    /// For `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// For `/dev/shm`.
    pub shm: Option<PathBuf>,
}

/// The mounts of a specification.
pub struct Mounts {
    /// In the order in which they are made.
    pub list: Vec<Value>,
    /// `linux.rootfsPropagation`, if some mount needs more than the default.
    pub rootfs_propagation: Option<&'static str>,
}

/// All mounts: the kernel's, the pod's, and those that CRI asks for.
pub fn build(input: &SpecInput<'_>) -> Result<Mounts> {
    let asked = |path: &str| input.config.mounts.iter().any(|m| clean(&m.container_path) == Path::new(path));
    let mut list: Vec<Value> = kernel(input).into_iter().filter(|m| !asked(destination(m))).collect();
    let read_only = input.security().is_some_and(|s| s.readonly_rootfs);
    let files = [
        ("/etc/hostname", &input.files.hostname_file, read_only),
        ("/etc/hosts", &input.files.hosts, read_only),
        ("/etc/resolv.conf", &input.files.resolv_conf, read_only),
        ("/dev/shm", &input.files.shm, false),
    ];
    for (path, source, ro) in files {
        if let Some(source) = source.as_ref().filter(|_| !asked(path)) {
            let access = if ro { "ro" } else { "rw" };
            let options = json!(["rbind", "rprivate", access]);
            list.push(json!({"destination": path, "type": "bind", "source": source, "options": options}));
        }
    }
    let mut wanted: Vec<(&Mount, Option<&PathBuf>)> = input
        .config
        .mounts
        .iter()
        .enumerate()
        .map(|(i, m)| (m, input.image_mounts.get(i).and_then(Option::as_ref)))
        .collect();
    // A mount below another must come after it.
    wanted.sort_by_key(|(m, _)| clean(&m.container_path).components().count());
    let mut rootfs_propagation = None;
    for (mount, image) in wanted {
        list.push(bind(mount, image, input)?);
        match mount.propagation() {
            MountPropagation::PropagationBidirectional => rootfs_propagation = Some("rshared"),
            MountPropagation::PropagationHostToContainer => {
                rootfs_propagation = rootfs_propagation.or(Some("rslave"));
            }
            MountPropagation::PropagationPrivate => {}
        }
    }
    Ok(Mounts { list, rootfs_propagation })
}

fn kernel(input: &SpecInput<'_>) -> Vec<Value> {
    let privileged = input.privileged();
    let access = if privileged { "rw" } else { "ro" };
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ]
}

fn destination(mount: &Value) -> &str {
    mount["destination"].as_str().unwrap_or_default()
}

fn clean(path: &str) -> PathBuf {
    Path::new("/").join(crate::snapshots::clean_path(Path::new(path)))
}

fn bind(mount: &Mount, image: Option<&PathBuf>, input: &SpecInput<'_>) -> Result<Value> {
    let source = match image {
        Some(path) => path.clone(),
        None => host_path(mount)?,
    };
    let mut options = vec!["rbind"];
    options.push(match mount.propagation() {
        MountPropagation::PropagationPrivate => "rprivate",
        MountPropagation::PropagationHostToContainer => {
            ensure_propagation(&source, &["shared:", "master:"], "shared or slave")?;
            "rslave"
        }
        MountPropagation::PropagationBidirectional => {
            ensure_propagation(&source, &["shared:"], "shared")?;
            "rshared"
        }
    });
    if mount.recursive_read_only {
        check_recursive_read_only(mount, input)?;
        options.push("rro");
    }
    options.push(if mount.readonly || image.is_some() { "ro" } else { "rw" });
    Ok(json!({
        "destination": clean(&mount.container_path), "type": "bind", "source": source, "options": options,
    }))
}

fn check_recursive_read_only(mount: &Mount, input: &SpecInput<'_>) -> Result<()> {
    let wrong = |why: &str| Err(Error::InvalidArgument(format!("recursive read-only mount: {why}")));
    if !mount.readonly {
        return wrong("the mount must be readonly");
    }
    if mount.propagation() != MountPropagation::PropagationPrivate {
        return wrong("the mount's propagation must be private");
    }
    if !input.host.recursive_read_only {
        return wrong("the kernel cannot do it (it takes Linux 5.12)");
    }
    Ok(())
}

/// The real path of a volume; as containerd does, a directory is made where nothing is.
fn host_path(mount: &Mount) -> Result<PathBuf> {
    let path = Path::new(&mount.host_path);
    if !path.is_absolute() {
        return Err(Error::InvalidArgument(format!("host path {:?} is not absolute", mount.host_path)));
    }
    if fs::symlink_metadata(path).is_err() {
        fs::create_dir_all(path).map_err(Error::io("make mount source", path))?;
    }
    fs::canonicalize(path).map_err(Error::io("resolve mount source", path))
}

/// Mounts reach from the host into a container only through a mount point that shares them.
fn ensure_propagation(path: &Path, wanted: &[&str], name: &str) -> Result<()> {
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(table).map_err(Error::io("read", table))?;
    let mut best: Option<(usize, bool)> = None;
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(point) = fields.get(4).filter(|point| path.starts_with(point)) else { continue };
        let optional = fields.iter().skip(6).take_while(|f| **f != "-");
        let shares = optional.into_iter().any(|f| wanted.iter().any(|w| f.starts_with(w)));
        if best.is_none_or(|(length, _)| point.len() >= length) {
            best = Some((point.len(), shares));
        }
    }
    match best {
        Some((_, true)) => Ok(()),
        _ => Err(Error::FailedPrecondition(format!(
            "path {:?} is mounted on a mount that is not {name}",
            path
        ))),
    }
}
