//! Where the kernel's control groups are mounted.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The hierarchies of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// One mount per controller, or a few together.
    V1(BTreeMap<String, PathBuf>),
    /// One mount for all.
    V2(PathBuf),
    /// None usable.
    None,
}

impl Layout {
    /// Looks at the mounts of this process.
    pub fn detect() -> Self {
        std::fs::read_to_string("/proc/self/mountinfo").map_or(Self::None, |table| Self::parse(&table))
    }

    /// Reads a mount table. With v1 controllers mounted, the unified hierarchy beside them is of no use here.
    pub fn parse(table: &str) -> Self {
        let mut v1 = BTreeMap::new();
        let mut v2 = None;
        for line in table.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(target) = left.split(' ').nth(4) else { continue };
            let mut right = right.split(' ');
            match right.next() {
                Some("cgroup2") => v2 = v2.or(Some(PathBuf::from(target))),
                Some("cgroup") => {
                    for controller in right.nth(1).unwrap_or_default().split(',') {
                        if !matches!(controller, "rw" | "ro") && !controller.contains('=') {
                            v1.entry(controller.to_owned()).or_insert_with(|| PathBuf::from(target));
                        }
                    }
                }
                _ => {}
            }
        }
        match v2 {
            _ if v1.contains_key("memory") || v1.contains_key("cpu") => Self::V1(v1),
            Some(root) => Self::V2(root),
            None => Self::None,
        }
    }

    /// True with cgroup v2.
    pub fn is_unified(&self) -> bool {
        matches!(self, Self::V2(_))
    }

    /// Every mount, each once.
    pub fn roots(&self) -> Vec<PathBuf> {
        match self {
            Self::V1(controllers) => {
                let mut roots: Vec<PathBuf> = controllers.values().cloned().collect();
                roots.sort();
                roots.dedup();
                roots
            }
            Self::V2(root) => vec![root.clone()],
            Self::None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_tables() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(Layout::parse(v2), Layout::V2("/sys/fs/cgroup".into()));
        let v1 = "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                  33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                  34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let Layout::V1(controllers) = Layout::parse(v1) else { panic!("not v1") };
        assert_eq!(controllers.keys().collect::<Vec<_>>(), ["cpu", "cpuacct", "memory"]);
        assert_eq!(Layout::parse(""), Layout::None);
    }
}
