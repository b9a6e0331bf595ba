//! What of the kernel and the host a node needs, looked at before anything is started.

use std::path::Path;

use anyhow::bail;

use crate::say::say;

/// How a finding bears on running a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is there.
    Good,
    /// It is not, and a node runs all the same, with less.
    Less,
    /// A node cannot run.
    Missing,
}

/// One thing looked at.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What that means and what to do, in one sentence.
    pub note: String,
}

/// Looks at everything.
pub fn findings() -> Vec<Finding> {
    let mut all = vec![root(), filesystem(), cgroups()];
    all.extend(namespaces());
    all.push(device("/proc/net/netlink", "netlink", "the network cannot be set up"));
    all.push(nf_tables());
    all.push(resource_capability());
    all
}

/// Fails with one sentence if a node cannot run here.
pub fn require() -> anyhow::Result<()> {
    for finding in findings() {
        if finding.verdict == Verdict::Missing {
            bail!("{}: {}", finding.what, finding.note);
        }
    }
    Ok(())
}

/// Prints the findings; true if a node can run.
pub fn print() -> bool {
    let all = findings();
    for finding in &all {
        let mark = match finding.verdict {
            Verdict::Good => "ok     ",
            Verdict::Less => "less   ",
            Verdict::Missing => "MISSING",
        };
        say!("{mark}  {:<22} {}", finding.what, finding.note);
    }
    all.iter().all(|f| f.verdict != Verdict::Missing)
}

fn finding(what: &'static str, verdict: Verdict, note: impl Into<String>) -> Finding {
    Finding { what, verdict, note: note.into() }
}

fn root() -> Finding {
    // SAFETY: geteuid has no preconditions and cannot fail.
    match unsafe { libc::geteuid() } {
        0 => finding("root", Verdict::Good, "running as root"),
        _ => finding("root", Verdict::Missing, "a node must run as root"),
    }
}

fn filesystem() -> Finding {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has = known.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    match has || Path::new("/sys/module/overlay").exists() || module_exists("overlay") {
        true => finding("overlay file system", Verdict::Good, "image layers can be stacked"),
        false => finding("overlay file system", Verdict::Missing, "the kernel has no overlayfs"),
    }
}

/// True if the kernel can load the module `name` when it is needed.
fn module_exists(name: &str) -> bool {
    let Ok(release) = std::fs::read_to_string("/proc/sys/kernel/osrelease") else { return false };
    let list = format!("/lib/modules/{}/modules.dep", release.trim());
    let file = format!("/{name}.ko");
    std::fs::read_to_string(list).is_ok_and(|text| text.lines().any(|line| line.contains(&file)))
}

fn cgroups() -> Finding {
    let base = Path::new("/sys/fs/cgroup");
    if let Ok(controllers) = std::fs::read_to_string(base.join("cgroup.controllers")) {
        let missing: Vec<&str> = ["cpu", "memory", "pids"]
            .into_iter()
            .filter(|c| !controllers.split_whitespace().any(|h| h == *c))
            .collect();
        return match missing.is_empty() {
            true => finding("cgroups", Verdict::Good, "version 2"),
            false => finding("cgroups", Verdict::Less, format!("version 2 without {}", missing.join(", "))),
        };
    }
    let missing: Vec<&str> = ["cpu", "memory", "pids", "devices", "freezer"]
        .into_iter()
        .filter(|c| !base.join(c).is_dir())
        .collect();
    match missing.as_slice() {
        [] => finding("cgroups", Verdict::Good, "version 1"),
        some if some.len() < 5 => finding(
            "cgroups",
            Verdict::Less,
            format!("version 1 without {}: those limits are not enforced", some.join(", ")),
        ),
        _ => finding("cgroups", Verdict::Missing, "no cgroup controller is mounted below /sys/fs/cgroup"),
    }
}

fn namespaces() -> Vec<Finding> {
    let one = |what: &'static str, file: &str| match Path::new("/proc/self/ns").join(file).exists() {
        true => finding(what, Verdict::Good, "the kernel has them"),
        false => finding(what, Verdict::Missing, "the kernel lacks them"),
    };
    vec![
        one("mount namespaces", "mnt"),
        one("process namespaces", "pid"),
        one("network namespaces", "net"),
        one("ipc namespaces", "ipc"),
        one("uts namespaces", "uts"),
    ]
}

fn device(path: &str, what: &'static str, without: &str) -> Finding {
    match Path::new(path).exists() {
        true => finding(what, Verdict::Good, "there"),
        false => finding(what, Verdict::Missing, without),
    }
}

fn nf_tables() -> Finding {
    const NETLINK_NETFILTER: i32 = 12;
    // SAFETY: plain system calls; the descriptor is closed before it is forgotten.
    let opened = unsafe {
        let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, NETLINK_NETFILTER);
        if fd >= 0 {
            libc::close(fd);
        }
        fd >= 0
    };
    let has = opened
        && (Path::new("/sys/module/nf_tables").exists() || built_in_symbol() || module_exists("nf_tables"));
    match has {
        true => finding("nf_tables", Verdict::Good, "services can be routed"),
        false => finding("nf_tables", Verdict::Missing, "the kernel has no nf_tables, which services need"),
    }
}

/// A built-in nf_tables has no module folder; its symbols tell.
fn built_in_symbol() -> bool {
    std::fs::read_to_string("/proc/kallsyms").is_ok_and(|text| text.contains(" nf_tables_"))
}

fn resource_capability() -> Finding {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    match bits & (1 << CAP_SYS_RESOURCE) != 0 {
        true => {
            finding("CAP_SYS_RESOURCE", Verdict::Good, "pods can be shielded from the OOM killer by class")
        }
        false => finding("CAP_SYS_RESOURCE", Verdict::Less, "negative OOM scores are refused and taken as 0"),
    }
}
