//! What a group's processes used.

use std::path::PathBuf;

use super::{Cgroup, Version};

/// Counters of a group; `None` where its controller is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time in nanoseconds.
    pub cpu_usage_ns: Option<u64>,
    /// Memory in bytes, page cache included.
    pub memory_usage_bytes: Option<u64>,
    /// Memory in bytes without file pages that were not used lately: what upstream calls the working set.
    pub memory_working_set_bytes: Option<u64>,
    /// Tasks.
    pub pids: Option<u64>,
}

pub(super) fn read(cgroup: &Cgroup) -> Stats {
    let (cpu, usage_file, inactive_key) = match cgroup.version() {
        Version::V1 => {
            (number(cgroup, "cpuacct", "cpuacct.usage"), "memory.usage_in_bytes", "total_inactive_file")
        }
        Version::V2 => {
            let micros = key(cgroup, "", "cpu.stat", "usage_usec");
            (micros.map(|us| us * 1000), "memory.current", "inactive_file")
        }
    };
    let usage = number(cgroup, "memory", usage_file);
    let inactive = key(cgroup, "memory", "memory.stat", inactive_key);
    Stats {
        cpu_usage_ns: cpu,
        memory_usage_bytes: usage,
        memory_working_set_bytes: usage.map(|usage| usage.saturating_sub(inactive.unwrap_or(0))),
        pids: number(cgroup, "pids", "pids.current"),
    }
}

pub(super) fn oom_kills(cgroup: &Cgroup) -> u64 {
    let file = match cgroup.version() {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    key(cgroup, "memory", file, "oom_kill").unwrap_or(0)
}

fn text(cgroup: &Cgroup, controller: &str, file: &str) -> Option<String> {
    let path: PathBuf = cgroup.dir(controller)?.join(file);
    std::fs::read_to_string(path).ok()
}

fn number(cgroup: &Cgroup, controller: &str, file: &str) -> Option<u64> {
    text(cgroup, controller, file)?.trim().parse().ok()
}

fn key(cgroup: &Cgroup, controller: &str, file: &str, key: &str) -> Option<u64> {
    let text = text(cgroup, controller, file)?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}
