//! Device nodes and the rules of who may use which.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::SpecInput;
use crate::error::{Error, Result};

/// Directories of /dev that are mounts of their own in a container, or none of its business.
const SKIPPED_DIRS: [&str; 6] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts"];
/// Not a device of the container's but its own terminal.
const SKIPPED_FILES: [&str; 1] = ["console"];
const MAX_DEVICES: usize = 10_000;
const ALL_ACCESS: &str = "rwm";

/// The devices of a container; those that every container has are the runtime's business.
pub struct Devices {
    /// `linux.devices`.
    pub nodes: Vec<Value>,
    /// `linux.resources.devices`.
    pub rules: Vec<Value>,
}

/// The devices that a container asks for, or all of the host's if it is privileged.
pub fn build(input: &SpecInput<'_>) -> Result<Devices> {
    let mut devices =
        Devices { nodes: Vec::new(), rules: vec![json!({"allow": false, "access": ALL_ACCESS})] };
    if input.privileged() {
        devices.rules = vec![json!({"allow": true, "access": ALL_ACCESS})];
        for (path, node) in host_devices(Path::new("/dev")) {
            devices.nodes.push(node.to_json(&path));
        }
        return Ok(devices);
    }
    for device in &input.config.devices {
        for (host, node) in devices_at(Path::new(&device.host_path))? {
            let below = host.strip_prefix(&device.host_path).unwrap_or(Path::new(""));
            let path = if below.as_os_str().is_empty() {
                PathBuf::from(&device.container_path)
            } else {
                Path::new(&device.container_path).join(below)
            };
            devices.nodes.push(node.to_json(&path));
            let access = if device.permissions.is_empty() { ALL_ACCESS } else { &device.permissions };
            devices.rules.push(json!({
                "allow": true, "type": node.kind, "major": node.major, "minor": node.minor, "access": access,
            }));
        }
    }
    Ok(devices)
}

struct Node {
    kind: &'static str,
    major: u64,
    minor: u64,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Node {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let kind = match metadata.file_type() {
            t if t.is_char_device() => "c",
            t if t.is_block_device() => "b",
            _ => return None,
        };
        let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
        Some(Self {
            kind,
            major: major.into(),
            minor: minor.into(),
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
        })
    }

    fn to_json(&self, path: &Path) -> Value {
        json!({
            "path": path, "type": self.kind, "major": self.major, "minor": self.minor,
            "fileMode": self.mode, "uid": self.uid, "gid": self.gid,
        })
    }
}

fn devices_at(path: &Path) -> Result<Vec<(PathBuf, Node)>> {
    let real = fs::canonicalize(path).map_err(Error::io("find device", path))?;
    if let Some(node) = Node::of(&real) {
        return Ok(vec![(path.to_owned(), node)]);
    }
    let found = if real.is_dir() { host_devices(path) } else { Vec::new() };
    if found.is_empty() {
        return Err(Error::InvalidArgument(format!("{} is not a device", path.display())));
    }
    Ok(found)
}

fn host_devices(root: &Path) -> Vec<(PathBuf, Node)> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().filter_map(Result::ok) {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if !SKIPPED_DIRS.contains(&name.as_ref()) {
                    pending.push(path);
                }
            } else if !SKIPPED_FILES.contains(&name.as_ref())
                && found.len() < MAX_DEVICES
                && let Some(node) = Node::of(&path)
            {
                found.push((path, node));
            }
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}
