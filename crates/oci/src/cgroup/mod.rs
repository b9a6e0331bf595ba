//! Control groups, version 1 (every controller a hierarchy of its own) and version 2 (one hierarchy), behind one type.
//!
//! A [`Cgroup`] is a path below the root of every hierarchy that [`Hierarchies`] found; it may or may not exist.

mod device_program;
mod device_rules;
mod ending;
mod hierarchies;
mod stats;
mod v1;
mod v2;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::spec::Resources;

pub use hierarchies::{Hierarchies, Version};
pub use stats::Stats;

/// A control group: the same path in every hierarchy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cgroup {
    hierarchies: Hierarchies,
    path: String,
}

impl Cgroup {
    /// The group at `path` (`/a/b`) below the roots of `hierarchies`. Nothing is made yet.
    pub fn new(hierarchies: Hierarchies, path: &str) -> Result<Self> {
        let clean = path.trim_matches('/');
        if clean.is_empty() || clean.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Error::Invalid(format!("cgroup path {path:?}")));
        }
        Ok(Self { hierarchies, path: clean.to_owned() })
    }

    /// The version of the machine's hierarchies.
    pub fn version(&self) -> Version {
        self.hierarchies.version
    }

    /// The group's directory for a controller, whether it exists or not. On version 2 there is one for all.
    pub fn dir(&self, controller: &str) -> Option<PathBuf> {
        self.hierarchies.root(controller).map(|root| root.join(&self.path))
    }

    /// All its directories: controller and path. On version 2 the controller is empty.
    pub fn dirs(&self) -> Vec<(String, PathBuf)> {
        self.hierarchies.roots().map(|(name, root)| (name.to_owned(), root.join(&self.path))).collect()
    }

    /// True if it exists in any hierarchy.
    pub fn exists(&self) -> bool {
        self.dirs().iter().any(|(_, dir)| dir.exists())
    }

    /// Makes the group and its parents wherever they are missing, ready to take processes.
    pub fn create(&self) -> Result<()> {
        match self.version() {
            Version::V1 => v1::create(self),
            Version::V2 => v2::create(self),
        }
    }

    /// Sets limits. Fields that are not given stay as they are; device rules are replaced as a whole.
    pub fn apply(&self, resources: &Resources) -> Result<()> {
        match self.version() {
            Version::V1 => v1::apply(self, resources),
            Version::V2 => v2::apply(self, resources),
        }
    }

    /// Sets which devices its processes may use. Without any call the kernel's default is: all.
    pub fn apply_devices(&self, resources: &Resources) -> Result<()> {
        let rules = device_rules::with_defaults(&resources.devices);
        match self.version() {
            Version::V1 => v1::apply_devices(self, &rules),
            Version::V2 => v2::apply_devices(self, &rules),
        }
    }

    /// Moves a process into the group.
    pub fn add_process(&self, pid: i32) -> Result<()> {
        for (_, dir) in self.dirs() {
            write(&dir.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Its processes and those of the groups below it, as the reader's PID namespace numbers them.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let Some(dir) = self.processes_dir() else { return Ok(Vec::new()) };
        let mut pids = Vec::new();
        collect_processes(&dir, &mut pids)?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Stops or continues every process of the group and waits until that is so.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        match self.version() {
            Version::V1 => v1::freeze(self, frozen),
            Version::V2 => v2::freeze(self, frozen),
        }
    }

    /// True if it was stopped by [`Cgroup::freeze`].
    pub fn is_frozen(&self) -> bool {
        let (controller, file, word) = match self.version() {
            Version::V1 => ("freezer", "freezer.state", "THAWED"),
            Version::V2 => ("", "cgroup.freeze", "0"),
        };
        let text = self.dir(controller).and_then(|dir| std::fs::read_to_string(dir.join(file)).ok());
        text.is_some_and(|text| text.trim() != word)
    }

    /// Sends a signal to every process of the group.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        ending::signal_all(self, signal)
    }

    /// Kills every process of the group and waits for their end.
    pub fn kill_all(&self) -> Result<()> {
        ending::kill_all(self)
    }

    /// Removes the group and those below it; they must have no processes. No error if there is none.
    pub fn remove(&self) -> Result<()> {
        ending::remove(self)
    }

    /// What its processes used.
    pub fn stats(&self) -> Stats {
        stats::read(self)
    }

    /// How many of its processes the kernel has killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        stats::oom_kills(self)
    }

    /// The directory in whose hierarchy the group's processes are counted.
    fn processes_dir(&self) -> Option<PathBuf> {
        ["", "pids", "memory", "freezer", "devices", "name=systemd"]
            .iter()
            .filter_map(|controller| self.dir(controller))
            .find(|dir| dir.exists())
    }
}

fn collect_processes(dir: &Path, into: &mut Vec<i32>) -> Result<()> {
    let file = dir.join("cgroup.procs");
    match std::fs::read_to_string(&file) {
        Ok(text) => into.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
        // Gone meanwhile, or a threaded group, whose processes its parent counts.
        Err(e) if is_gone(&e) || e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(e) => return Err(e).doing(|| format!("read {}", file.display())),
    }
    for child in children(dir) {
        collect_processes(&child, into)?;
    }
    Ok(())
}

/// The groups directly below a group.
fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// Writes a control file in one write(2), as the kernel wants it, without making it.
fn write(path: &Path, value: &str) -> Result<()> {
    write_raw(path, value).doing(|| format!("write {value:?} to {}", path.display()))
}

fn write_raw(path: &Path, value: &str) -> io::Result<()> {
    use std::io::Write;
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

#[cfg(test)]
mod tests;
