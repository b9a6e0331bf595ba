//! Where the machine's hierarchies are mounted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// Which version a machine uses for its controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// Every controller a hierarchy of its own; a version 2 hierarchy without controllers may lie beside them.
    V1,
    /// One hierarchy.
    V2,
}

/// The mounted hierarchies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchies {
    pub(super) version: Version,
    /// Mount points by controller (`memory`, `name=systemd`); on version 2 the one of `""`.
    mounts: BTreeMap<String, PathBuf>,
}

/// Controllers that make a machine count as version 1 when one of them is mounted so.
const MAIN_CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
/// Every controller of version 1. Other options of a mount (`rw`, `xattr`, `release_agent=…`) are none.
const CONTROLLERS: [&str; 14] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "debug",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
];

impl Hierarchies {
    /// Those of this process's mount namespace.
    pub fn detect() -> Result<Self> {
        let path = "/proc/self/mountinfo";
        let text = std::fs::read_to_string(path).doing(|| format!("read {path}"))?;
        Self::parse(&text)
    }

    /// From the text of a mountinfo file.
    pub(super) fn parse(mountinfo: &str) -> Result<Self> {
        let mut v1 = BTreeMap::new();
        let mut v2 = None;
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
            let Some(point) = mount.split(' ').nth(4) else { continue };
            let mut filesystem = filesystem.split(' ');
            match filesystem.next() {
                Some("cgroup") => {
                    for name in filesystem.nth(1).unwrap_or_default().split(',') {
                        if CONTROLLERS.contains(&name) || name.starts_with("name=") {
                            v1.entry(name.to_owned()).or_insert_with(|| PathBuf::from(point));
                        }
                    }
                }
                Some("cgroup2") => v2 = v2.or_else(|| Some(PathBuf::from(point))),
                _ => {}
            }
        }
        if MAIN_CONTROLLERS.iter().any(|name| v1.contains_key(*name)) {
            return Ok(Self { version: Version::V1, mounts: v1 });
        }
        match v2 {
            Some(point) => Ok(Self { version: Version::V2, mounts: [(String::new(), point)].into() }),
            None => Err(Error::Invalid("no cgroup file system is mounted".to_owned())),
        }
    }

    /// Which version the machine uses.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The root of a controller's hierarchy.
    pub fn root(&self, controller: &str) -> Option<&Path> {
        match self.version {
            Version::V1 => self.mounts.get(controller).map(PathBuf::as_path),
            Version::V2 => self.mounts.get("").map(PathBuf::as_path),
        }
    }

    /// All roots, each with its controller.
    pub fn roots(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.mounts.iter().map(|(name, path)| (name.as_str(), path.as_path()))
    }
}
