//! The little that a shim does with cgroups itself: where its containers are, whether the kernel killed one for want
//! of memory, and ending whatever a container leaves behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A mounted hierarchy, of which only the part below `root` may be visible.
struct Mount {
    root: String,
    point: PathBuf,
}

impl Mount {
    /// Where a group of the hierarchy is in the file system.
    fn dir(&self, group: &str) -> PathBuf {
        let below = group.strip_prefix(self.root.trim_end_matches('/')).unwrap_or(group);
        self.point.join(below.trim_start_matches('/'))
    }
}

/// Hierarchies by controller (`name=systemd` too); version 2 has the empty name.
fn mounts() -> BTreeMap<String, Mount> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts = BTreeMap::new();
    for line in text.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        let mut mount = mount.split(' ').skip(3);
        let (Some(root), Some(point)) = (mount.next(), mount.next()) else { continue };
        let made = || Mount { root: root.to_owned(), point: point.into() };
        let mut filesystem = filesystem.split(' ');
        match filesystem.next() {
            Some("cgroup") => {
                for name in filesystem.nth(1).unwrap_or_default().split(',') {
                    mounts.entry(name.to_owned()).or_insert_with(made);
                }
            }
            Some("cgroup2") => {
                mounts.entry(String::new()).or_insert_with(made);
            }
            _ => {}
        }
    }
    mounts
}

/// The cgroup directories of a process by controller.
pub(super) fn of_process(pid: i32) -> BTreeMap<String, PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mounts = mounts();
    let mut dirs = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        for name in controllers.split(',') {
            if let Some(mount) = mounts.get(name) {
                dirs.insert(name.to_owned(), mount.dir(path));
            }
        }
    }
    // Beside version 1 an empty version 2 hierarchy counts nothing.
    if dirs.len() > 1 {
        dirs.remove("");
    }
    dirs
}

/// How many processes of these directories the kernel has killed for want of memory.
pub(super) fn oom_kills(dirs: &BTreeMap<String, PathBuf>) -> u64 {
    let file = match (dirs.get("memory"), dirs.get("")) {
        (Some(dir), _) => dir.join("memory.oom_control"),
        (None, Some(dir)) => dir.join("memory.events"),
        (None, None) => return 0,
    };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// Sends a signal to every process of these directories and those below.
pub(super) fn signal_all(dirs: &BTreeMap<String, PathBuf>, signal: i32) {
    let Some(dir) = ["", "pids", "memory", "freezer", "devices"].iter().find_map(|name| dirs.get(*name))
    else {
        return;
    };
    if signal == libc::SIGKILL && std::fs::write(dir.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let mut pids = Vec::new();
    collect(dir, &mut pids);
    for pid in pids {
        // One that has ended meanwhile is as good as signalled.
        // SAFETY: takes numbers only.
        unsafe { libc::kill(pid, signal) };
    }
}

fn collect(dir: &Path, into: &mut Vec<i32>) {
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // 0 stands for a process of another PID namespace, and as a target for our own group.
    into.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 1));
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), into);
        }
    }
}

/// Moves this process to a path below the root of every hierarchy, making it where it is missing. Not of cpusets,
/// which take no process before they have processors, and confine nobody who stays at their root.
pub(super) fn join(path: &str) -> Result<(), String> {
    let relative = path.trim_matches('/');
    if relative.is_empty() || relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("cgroup {path:?}"));
    }
    let mounts = mounts();
    let is_v1 = ["memory", "cpu", "pids"].iter().any(|name| mounts.contains_key(*name));
    for (controller, mount) in &mounts {
        let is_hierarchy = mount.point.join("cgroup.procs").exists();
        if !is_hierarchy || controller == "cpuset" || (is_v1 && controller.is_empty()) {
            continue;
        }
        let dir = mount.point.join(relative);
        std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::write(dir.join("cgroup.procs"), std::process::id().to_string()))
            .map_err(|e| format!("join the cgroup {}: {e}", dir.display()))?;
    }
    Ok(())
}
