//! The groups of a node's pods.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Layout;
use crate::container::linux::{PERIOD_US, PodLimits, cpu_weight};
use crate::pod::PodUid;
use crate::pod::resources::QosClass;

/// v1 controllers in which the kubelet makes groups; the runtime makes its own in the others.
const USED_V1: [&str; 3] = ["cpu", "memory", "pids"];
/// v2 controllers given to the groups below.
const DELEGATED_V2: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];
/// How often, and how long between, a group that is still busy is tried again.
const REMOVE_TRIES: u32 = 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(25);

/// The node's groups. All paths begin at the hierarchy's root, e.g. `/kubepods/burstable/pod<uid>`.
#[derive(Debug, Clone)]
pub struct Cgroups {
    layout: Layout,
    root: String,
    enabled: bool,
}

impl Cgroups {
    /// Groups below `root`; `enabled` is false when pods are left where the runtime puts them.
    pub fn new(layout: Layout, root: &str, enabled: bool) -> Self {
        let enabled = enabled && layout != Layout::None;
        Self { layout, root: root.trim_end_matches('/').to_owned(), enabled }
    }

    /// True with cgroup v2.
    pub fn is_unified(&self) -> bool {
        self.layout.is_unified()
    }

    fn kubepods(&self) -> String {
        format!("{}/kubepods", self.root)
    }

    fn class(&self, class: QosClass) -> String {
        match class {
            QosClass::Guaranteed => self.kubepods(),
            QosClass::Burstable => self.kubepods() + "/burstable",
            QosClass::BestEffort => self.kubepods() + "/besteffort",
        }
    }

    /// The pod's group, as the runtime is told it; empty when groups are off.
    pub fn of_pod(&self, class: QosClass, uid: &PodUid) -> String {
        if self.enabled { format!("{}/pod{uid}", self.class(class)) } else { String::new() }
    }

    /// Makes the groups of the node and the classes. `allocatable` limits all pods together.
    pub fn make_base(&self, allocatable: PodLimits) -> io::Result<()> {
        if !self.enabled {
            return Ok(());
        }
        self.make(&self.kubepods(), allocatable)?;
        let least = PodLimits { cpu_shares: 2, ..PodLimits::default() };
        self.make(&self.class(QosClass::Burstable), least)?;
        self.make(&self.class(QosClass::BestEffort), least)
    }

    /// Gives a class its share of CPU: what its pods request together.
    pub fn set_class_shares(&self, class: QosClass, cpu_shares: i64) -> io::Result<()> {
        if !self.enabled {
            return Ok(());
        }
        self.apply(&self.class(class), PodLimits { cpu_shares, ..PodLimits::default() })
    }

    /// Makes the pod's group.
    pub fn make_pod(&self, class: QosClass, uid: &PodUid, limits: PodLimits) -> io::Result<()> {
        if !self.enabled {
            return Ok(());
        }
        self.make(&self.of_pod(class, uid), limits)
    }

    /// Removes the pod's group and all below it, ending processes that are still in it. Looks in every class, since the
    /// pod may be unknown.
    pub async fn remove_pod(&self, uid: &PodUid) -> io::Result<()> {
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            let group = format!("{}/pod{uid}", self.class(class));
            for root in self.layout.roots() {
                remove(&join(&root, &group)).await?;
            }
        }
        Ok(())
    }

    /// The pods that have a group.
    pub fn pods(&self) -> Vec<PodUid> {
        let mut found = std::collections::BTreeSet::new();
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            for root in self.layout.roots() {
                let entries = fs::read_dir(join(&root, &self.class(class))).into_iter().flatten().flatten();
                let names = entries.filter_map(|e| e.file_name().into_string().ok());
                found.extend(names.filter_map(|name| name.strip_prefix("pod").map(PodUid::from)));
            }
        }
        found.into_iter().collect()
    }

    fn make(&self, group: &str, limits: PodLimits) -> io::Result<()> {
        match &self.layout {
            Layout::V1(controllers) => {
                for (name, root) in controllers {
                    if USED_V1.contains(&name.as_str()) {
                        fs::create_dir_all(join(root, group))?;
                    }
                }
            }
            Layout::V2(root) => {
                let mut at = root.clone();
                for part in group.split('/').filter(|p| !p.is_empty()) {
                    delegate(&at);
                    at.push(part);
                    fs::create_dir_all(&at)?;
                }
                delegate(&at);
            }
            Layout::None => {}
        }
        self.apply(group, limits)
    }

    fn apply(&self, group: &str, limits: PodLimits) -> io::Result<()> {
        let settings: Vec<(PathBuf, String)> = match &self.layout {
            Layout::V1(controllers) => v1_settings(limits)
                .into_iter()
                .filter_map(|(controller, file, value)| {
                    Some((join(controllers.get(controller)?, group).join(file), value))
                })
                .collect(),
            Layout::V2(root) => v2_settings(limits)
                .into_iter()
                .map(|(file, value)| (join(root, group).join(file), value))
                .collect(),
            Layout::None => Vec::new(),
        };
        for (file, value) in settings {
            match fs::write(&file, &value) {
                // A kernel built without the controller's file limits nothing there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(io::Error::new(error.kind(), format!("{}={value}: {error}", file.display())));
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

fn join(root: &Path, group: &str) -> PathBuf {
    root.join(group.trim_start_matches('/'))
}

fn v1_settings(limits: PodLimits) -> Vec<(&'static str, &'static str, String)> {
    let mut settings = vec![("cpu", "cpu.shares", limits.cpu_shares.to_string())];
    if limits.cpu_quota_us > 0 {
        settings.push(("cpu", "cpu.cfs_period_us", PERIOD_US.to_string()));
        settings.push(("cpu", "cpu.cfs_quota_us", limits.cpu_quota_us.to_string()));
    }
    if limits.memory_bytes > 0 {
        settings.push(("memory", "memory.limit_in_bytes", limits.memory_bytes.to_string()));
    }
    if limits.pids > 0 {
        settings.push(("pids", "pids.max", limits.pids.to_string()));
    }
    settings
}

fn v2_settings(limits: PodLimits) -> Vec<(&'static str, String)> {
    let mut settings = vec![("cpu.weight", cpu_weight(limits.cpu_shares).to_string())];
    if limits.cpu_quota_us > 0 {
        settings.push(("cpu.max", format!("{} {PERIOD_US}", limits.cpu_quota_us)));
    }
    if limits.memory_bytes > 0 {
        settings.push(("memory.max", limits.memory_bytes.to_string()));
    }
    if limits.pids > 0 {
        settings.push(("pids.max", limits.pids.to_string()));
    }
    settings
}

/// Lets the groups below use the controllers that there are.
fn delegate(group: &Path) {
    let there = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in there.split_whitespace().filter(|c| DELEGATED_V2.contains(c)) {
        // One that cannot be delegated (a process sits in the group) must not keep the others from it.
        if let Err(error) = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}")) {
            tracing::debug!(group = %group.display(), controller, %error, "controller not delegated");
        }
    }
}

async fn remove(group: &Path) -> io::Result<()> {
    for _ in 0..REMOVE_TRIES {
        match remove_now(group) {
            Err(error) if error.raw_os_error() == Some(16) => {
                kill_all(group);
                // A process leaves its group when it is reaped; nothing tells when that is.
                tokio::time::sleep(REMOVE_PAUSE).await;
            }
            other => return other,
        }
    }
    remove_now(group)
}

fn remove_now(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_now(&entry.path())?;
        }
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn kill_all(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            kill_all(&entry.path());
        }
    }
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|l| l.parse().ok()).filter_map(rustix::process::Pid::from_raw) {
        if let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
            tracing::debug!(?pid, %error, "process of an ended pod not killed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn groups_are_folders() {
        let mount = tempfile::tempdir().unwrap();
        let controllers = USED_V1.map(|c| (c.to_owned(), mount.path().join(c)));
        for (_, path) in &controllers {
            fs::create_dir(path).unwrap();
        }
        let cgroups = Cgroups::new(Layout::V1(controllers.into_iter().collect()), "/node-a", true);
        let uid = PodUid::from("u-1");
        assert_eq!(cgroups.of_pod(QosClass::Guaranteed, &uid), "/node-a/kubepods/podu-1");
        let group = mount.path().join("cpu/node-a/kubepods/burstable/podu-1");
        fs::create_dir_all(group.join("c")).unwrap();
        assert_eq!(cgroups.pods(), std::slice::from_ref(&uid));
        cgroups.remove_pod(&uid).await.unwrap();
        assert!(!group.exists() && cgroups.pods().is_empty());
        let off = Cgroups::new(Layout::None, "/", true);
        assert_eq!(off.of_pod(QosClass::Burstable, &uid), "");
    }

    #[test]
    fn limits_by_version() {
        let limits = PodLimits { cpu_shares: 1024, cpu_quota_us: 50_000, memory_bytes: 1 << 20, pids: 0 };
        let v1: Vec<String> =
            v1_settings(limits).into_iter().map(|(_, file, value)| format!("{file}={value}")).collect();
        assert_eq!(
            v1,
            [
                "cpu.shares=1024",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "memory.limit_in_bytes=1048576"
            ]
        );
        let v2: Vec<String> =
            v2_settings(limits).into_iter().map(|(file, value)| format!("{file}={value}")).collect();
        assert_eq!(v2, ["cpu.weight=100", "cpu.max=50000 100000", "memory.max=1048576"]);
    }
}
