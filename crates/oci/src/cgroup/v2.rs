//! Version 2: one directory, files by controller, values converted from those of version 1 that the specification has.

use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::{Cgroup, device_program, device_rules, is_gone, write, write_raw};
use crate::error::{Context, Error, Result};
use crate::spec::{DeviceRule, LinuxBlockIo, LinuxCpu, LinuxMemory, Resources};

/// How long freezing may take.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn create(cgroup: &Cgroup) -> Result<()> {
    let Some(root) = cgroup.hierarchies.root("") else { return Ok(()) };
    let mut dir = root.to_owned();
    for part in cgroup.path.split('/') {
        enable_controllers(&dir);
        dir.push(part);
        match std::fs::create_dir(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            other => other.doing(|| format!("make cgroup {}", dir.display()))?,
        }
    }
    Ok(())
}

/// Lets the groups below have what this one has. One at a time, since a controller that cannot be enabled must not
/// keep the others away; whoever then wants a file of it says that it is missing.
fn enable_controllers(dir: &Path) {
    let available = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let enabled = std::fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    for name in available.split_whitespace().filter(|name| !enabled.split_whitespace().any(|e| e == *name)) {
        let _ = write_raw(&dir.join("cgroup.subtree_control"), &format!("+{name}"));
    }
}

pub(super) fn apply(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    for (file, value) in settings(resources)? {
        let Some(path) = cgroup.dir("").map(|dir| dir.join(&file)) else { continue };
        match write_raw(&path, &value) {
            Err(e) if is_gone(&e) && is_optional(&file, &value) => {}
            Err(e) if is_gone(&e) => {
                return Err(e).doing(|| format!("{file}: this machine's cgroups lack the controller for it"));
            }
            other => other.doing(|| format!("write {value:?} to {}", path.display()))?,
        }
    }
    Ok(())
}

/// True if the value need not be written where its file is missing: kernels without swap have none to limit, and
/// engines send limits for every size of huge pages, counted or not.
fn is_optional(file: &str, value: &str) -> bool {
    (file == "memory.swap.max" && matches!(value, "max" | "0")) || file.starts_with("hugetlb.")
}

/// Files and what to write to them, in this order.
pub(super) fn settings(resources: &Resources) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    let mut set = |file: &str, value: String| files.push((file.to_owned(), value));
    if let Some(memory) = &resources.memory {
        memory_settings(memory, &mut set)?;
    }
    if let Some(cpu) = &resources.cpu {
        cpu_settings(cpu, &mut set);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|p| p.limit).filter(|limit| *limit != 0) {
        set("pids.max", max_or(limit));
    }
    if let Some(io) = &resources.block_io {
        io_settings(io, &mut set);
    }
    for page in &resources.hugepage_limits {
        set(&format!("hugetlb.{}.max", page.page_size), page.limit.to_string());
    }
    for (file, value) in &resources.unified {
        if file.contains('/') || !file.contains('.') || file.starts_with("cgroup.") {
            return Err(Error::Invalid(format!("linux.resources.unified: {file:?}")));
        }
        set(file, value.clone());
    }
    Ok(files)
}

fn max_or(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn memory_settings(memory: &LinuxMemory, set: &mut impl FnMut(&str, String)) -> Result<()> {
    let limit = memory.limit.filter(|limit| *limit != 0);
    if let Some(swap) = memory.swap.filter(|swap| *swap != 0) {
        // The specification's value is memory and swap together.
        let value = match limit {
            _ if swap < 0 => -1,
            Some(limit) if limit >= 0 && swap >= limit => swap - limit,
            _ => {
                return Err(Error::Invalid(
                    "linux.resources.memory.swap needs a limit on memory that is not above it".to_owned(),
                ));
            }
        };
        set("memory.swap.max", max_or(value));
    } else if limit.is_some_and(|limit| limit < 0) {
        set("memory.swap.max", "max".to_owned());
    }
    if let Some(limit) = limit {
        set("memory.max", max_or(limit));
    }
    if let Some(reservation) = memory.reservation.filter(|value| *value != 0) {
        set("memory.low", max_or(reservation));
    }
    Ok(())
}

fn cpu_settings(cpu: &LinuxCpu, set: &mut impl FnMut(&str, String)) {
    if let Some(idle) = cpu.idle {
        set("cpu.idle", idle.to_string());
    }
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        set("cpu.weight", weight_of_shares(shares).to_string());
    }
    let (quota, period) = (cpu.quota.filter(|q| *q != 0), cpu.period.filter(|p| *p != 0));
    if quota.is_some() || period.is_some() {
        let mut value = max_or(quota.unwrap_or(-1));
        if let Some(period) = period {
            let _ = write!(value, " {period}");
        }
        set("cpu.max", value);
    }
    if let Some(burst) = cpu.burst {
        set("cpu.max.burst", burst.to_string());
    }
    if !cpu.cpus.is_empty() {
        set("cpuset.cpus", cpu.cpus.clone());
    }
    if !cpu.mems.is_empty() {
        set("cpuset.mems", cpu.mems.clone());
    }
}

/// From 2..262144 to 1..10000 with 1024 becoming 100, the curve that current OCI runtimes use.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    match shares {
        2 => 1,
        262_144 => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

fn io_settings(io: &LinuxBlockIo, set: &mut impl FnMut(&str, String)) {
    // 10..1000 becomes 1..10000.
    let convert = |weight: u16| 1 + (u64::from(weight).max(10) - 10) * 9999 / 990;
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        set("io.weight", convert(weight).to_string());
    }
    for device in &io.weight_device {
        if let Some(weight) = device.weight {
            set("io.weight", format!("{}:{} {}", device.major, device.minor, convert(weight)));
        }
    }
    let throttles = [
        ("rbps", &io.throttle_read_bps_device),
        ("wbps", &io.throttle_write_bps_device),
        ("riops", &io.throttle_read_iops_device),
        ("wiops", &io.throttle_write_iops_device),
    ];
    for (key, devices) in throttles {
        for device in devices {
            set("io.max", format!("{}:{} {key}={}", device.major, device.minor, device.rate));
        }
    }
}

pub(super) fn apply_devices(cgroup: &Cgroup, rules: &[DeviceRule]) -> Result<()> {
    let Some(dir) = cgroup.dir("") else { return Ok(()) };
    let list = device_rules::DeviceList::from_rules(rules)?;
    device_program::replace(&dir, &list)
}

pub(super) fn freeze(cgroup: &Cgroup, frozen: bool) -> Result<()> {
    let Some(dir) = cgroup.dir("") else { return Ok(()) };
    let file = dir.join("cgroup.freeze");
    match write_raw(&file, if frozen { "1" } else { "0" }) {
        Err(e) if is_gone(&e) && !frozen => return Ok(()),
        other => other.doing(|| format!("write {}", file.display()))?,
    }
    let wanted = if frozen { "frozen 1" } else { "frozen 0" };
    let settled = wait_for_event(&dir, FREEZE_TIMEOUT, |events| events.lines().any(|line| line == wanted))?;
    if settled {
        return Ok(());
    }
    let _ = write(&file, "0");
    Err(Error::State(format!("the cgroup is not frozen after {FREEZE_TIMEOUT:?}")))
}

/// Waits until `cgroup.events` says what is wanted; false if it does not in time. The kernel tells of every change.
pub(super) fn wait_for_event(dir: &Path, timeout: Duration, wanted: impl Fn(&str) -> bool) -> Result<bool> {
    use std::io::Seek;
    use std::os::fd::AsFd;
    let path = dir.join("cgroup.events");
    let doing = || format!("read {}", path.display());
    let mut file = std::fs::File::open(&path).doing(doing)?;
    let deadline = Instant::now() + timeout;
    loop {
        let mut text = String::new();
        file.rewind().doing(doing)?;
        file.read_to_string(&mut text).doing(doing)?;
        if wanted(&text) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        let limit = PollTimeout::try_from(left.as_millis().max(1)).unwrap_or(PollTimeout::MAX);
        match nix::poll::poll(&mut fds, limit) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e).doing(|| format!("wait for {}", path.display())),
        }
    }
}
