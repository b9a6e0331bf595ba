//! What this machine's kernel and our own rights allow, found out once.

use std::fs;
use std::path::Path;

/// CAP_SYS_RESOURCE, needed to lower an OOM score.
const CAP_SYS_RESOURCE: u32 = 24;

/// Facts of the machine that specifications depend on.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// `/sys/fs/cgroup` is a cgroup v2 tree.
    pub unified_cgroups: bool,
    /// Swap can be limited.
    pub swap_limit: bool,
    /// Huge pages can be limited.
    pub hugetlb: bool,
    /// Our own capabilities, as a bit set: nobody can be given more.
    pub capabilities: u64,
    /// The lowest OOM score that we may give.
    pub min_oom_score_adj: i64,
    /// AppArmor is enabled.
    pub apparmor: bool,
    /// SELinux is enabled.
    pub selinux: bool,
    /// The kernel can make whole mount trees read-only (5.12).
    pub recursive_read_only: bool,
}

impl HostFacts {
    /// Looks at this machine.
    pub fn detect() -> Self {
        let cgroup = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(cgroup.join("cgroup.controllers"));
        let unified_cgroups = controllers.is_ok();
        let controllers = controllers.unwrap_or_default();
        let capabilities = own_capabilities();
        Self {
            unified_cgroups,
            swap_limit: if unified_cgroups {
                Path::new("/proc/swaps").exists() && controllers.contains("memory")
            } else {
                cgroup.join("memory/memory.memsw.limit_in_bytes").exists()
            },
            hugetlb: controllers.contains("hugetlb") || cgroup.join("hugetlb").exists(),
            capabilities,
            min_oom_score_adj: if capabilities & (1 << CAP_SYS_RESOURCE) != 0 {
                -1000
            } else {
                read_number("/proc/self/oom_score_adj").unwrap_or(0)
            },
            apparmor: fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with('Y')),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            recursive_read_only: kernel_version() >= (5, 12),
        }
    }
}

fn own_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0)
}

fn read_number(path: &str) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn kernel_version() -> (u32, u32) {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = text.split(['.', '-']).map_while(|part| part.parse().ok());
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
