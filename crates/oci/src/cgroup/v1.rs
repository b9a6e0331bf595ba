//! Version 1: every controller has its own directory and its own files.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Cgroup, is_gone, write, write_raw};
use crate::error::{Context, Error, Result};
use crate::spec::{DeviceRule, LinuxBlockIo, LinuxCpu, LinuxMemory, Resources, ThrottleDevice};

/// How long the freezer may take.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before the freezer's state is read again; it has no notification.
const FREEZE_RETRY: Duration = Duration::from_millis(1);

pub(super) fn create(cgroup: &Cgroup) -> Result<()> {
    for (controller, dir) in cgroup.dirs() {
        std::fs::create_dir_all(&dir).doing(|| format!("make cgroup {}", dir.display()))?;
        if controller == "cpuset" {
            let root = cgroup.hierarchies.root("cpuset").unwrap_or(Path::new("/"));
            inherit_cpuset(root, &dir)?;
        }
    }
    Ok(())
}

/// A new cpuset has no processors, and takes no process until it has. Each level copies its parent's.
fn inherit_cpuset(root: &Path, dir: &Path) -> Result<()> {
    if dir == root {
        return Ok(());
    }
    let Some(parent) = dir.parent() else { return Ok(()) };
    inherit_cpuset(root, parent)?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let path = dir.join(file);
        let own = std::fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
        if own.trim().is_empty() {
            let from = parent.join(file);
            let value = std::fs::read_to_string(&from).doing(|| format!("read {}", from.display()))?;
            write(&path, value.trim())?;
        }
    }
    Ok(())
}

pub(super) fn apply(cgroup: &Cgroup, resources: &Resources) -> Result<()> {
    if let Some(memory) = &resources.memory {
        apply_memory(cgroup, memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        apply_cpu(cgroup, cpu)?;
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|p| p.limit).filter(|limit| *limit != 0) {
        let value = if limit < 0 { "max".to_owned() } else { limit.to_string() };
        set(cgroup, "pids", "pids.max", &value)?;
    }
    if let Some(io) = &resources.block_io {
        apply_block_io(cgroup, io)?;
    }
    // Engines send limits for every size of page; where nothing counts them that is no reason to fail.
    let counts_pages = cgroup.dir("hugetlb").is_some();
    for page in resources.hugepage_limits.iter().filter(|_| counts_pages) {
        let file = format!("hugetlb.{}.limit_in_bytes", page.page_size);
        set(cgroup, "hugetlb", &file, &page.limit.to_string())?;
    }
    if let Some(network) = &resources.network {
        if let Some(class) = network.class_id {
            set(cgroup, "net_cls", "net_cls.classid", &class.to_string())?;
        }
        for entry in &network.priorities {
            let value = format!("{} {}", entry.name, entry.priority);
            set(cgroup, "net_prio", "net_prio.ifpriomap", &value)?;
        }
    }
    if let Some(file) = resources.unified.keys().next() {
        return Err(Error::Unsupported(format!(
            "{file} in linux.resources.unified: this machine has cgroup v1"
        )));
    }
    Ok(())
}

fn path(cgroup: &Cgroup, controller: &str, file: &str) -> Result<PathBuf> {
    let dir = cgroup.dir(controller).ok_or_else(|| {
        Error::Unsupported(format!(
            "{file}: the cgroup controller {controller} is not mounted on this machine"
        ))
    })?;
    Ok(dir.join(file))
}

fn set(cgroup: &Cgroup, controller: &str, file: &str, value: &str) -> Result<()> {
    write(&path(cgroup, controller, file)?, value)
}

fn apply_memory(cgroup: &Cgroup, memory: &LinuxMemory) -> Result<()> {
    const LIMIT: &str = "memory.limit_in_bytes";
    if memory.limit.is_some() || memory.swap.is_some() {
        // No limit on memory means none on both together either, which else could not be below.
        let swap = memory.swap.or_else(|| memory.limit.filter(|limit| *limit == -1));
        let swap = swap.filter(|swap| *swap != 0);
        let limit = memory.limit.filter(|limit| *limit != 0);
        // The limit on both must never be below the one on memory, so which goes first depends on their old values.
        let raises =
            swap.is_some_and(|swap| swap == -1 || current_swap(cgroup).is_some_and(|now| swap > now));
        let steps: [&dyn Fn() -> Result<()>; 2] =
            [&|| limit.map_or(Ok(()), |limit| set(cgroup, "memory", LIMIT, &limit.to_string())), &|| {
                swap.map_or(Ok(()), |swap| set_swap(cgroup, swap, limit))
            }];
        let order = if raises { [1, 0] } else { [0, 1] };
        for step in order {
            steps[step]()?;
        }
    }
    if let Some(reservation) = memory.reservation.filter(|value| *value != 0) {
        set(cgroup, "memory", "memory.soft_limit_in_bytes", &reservation.to_string())?;
    }
    if let Some(swappiness) = memory.swappiness {
        set(cgroup, "memory", "memory.swappiness", &swappiness.to_string())?;
    }
    if memory.disable_oom_killer == Some(true) {
        set(cgroup, "memory", "memory.oom_control", "1")?;
    }
    Ok(())
}

fn current_swap(cgroup: &Cgroup) -> Option<i64> {
    let path = cgroup.dir("memory")?.join("memory.memsw.limit_in_bytes");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Kernels that do not count swap lack the file. Where the limit allows no swap beyond the memory, or none is set,
/// that is as good.
fn set_swap(cgroup: &Cgroup, swap: i64, limit: Option<i64>) -> Result<()> {
    let path = path(cgroup, "memory", "memory.memsw.limit_in_bytes")?;
    match write_raw(&path, &swap.to_string()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && (swap == -1 || Some(swap) == limit) => Ok(()),
        other => other.doing(|| format!("write {swap} to {}", path.display())),
    }
}

fn apply_cpu(cgroup: &Cgroup, cpu: &LinuxCpu) -> Result<()> {
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        set(cgroup, "cpu", "cpu.shares", &shares.to_string())?;
    }
    if let Some(burst) = cpu.burst {
        set(cgroup, "cpu", "cpu.cfs_burst_us", &burst.to_string())?;
    }
    let period = cpu.period.filter(|period| *period != 0);
    let quota = cpu.quota.filter(|quota| *quota != 0);
    if let Some(period) = period {
        let file = path(cgroup, "cpu", "cpu.cfs_period_us")?;
        let result = write(&file, &period.to_string());
        // A shorter period can be refused because of the old quota, which is about to change.
        if let (Err(_), Some(quota)) = (&result, quota) {
            set(cgroup, "cpu", "cpu.cfs_quota_us", &quota.to_string())?;
            write(&file, &period.to_string())?;
        } else {
            result?;
        }
    }
    if let Some(quota) = quota {
        set(cgroup, "cpu", "cpu.cfs_quota_us", &quota.to_string())?;
    }
    if let Some(period) = cpu.realtime_period.filter(|value| *value != 0) {
        set(cgroup, "cpu", "cpu.rt_period_us", &period.to_string())?;
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|value| *value != 0) {
        set(cgroup, "cpu", "cpu.rt_runtime_us", &runtime.to_string())?;
    }
    if let Some(idle) = cpu.idle {
        set(cgroup, "cpu", "cpu.idle", &idle.to_string())?;
    }
    if !cpu.cpus.is_empty() {
        set(cgroup, "cpuset", "cpuset.cpus", &cpu.cpus)?;
    }
    if !cpu.mems.is_empty() {
        set(cgroup, "cpuset", "cpuset.mems", &cpu.mems)?;
    }
    Ok(())
}

fn apply_block_io(cgroup: &Cgroup, io: &LinuxBlockIo) -> Result<()> {
    // With the BFQ scheduler the weight has another name.
    let weight_file = |name: &str| -> Result<String> {
        let bfq = name.replace("blkio.", "blkio.bfq.");
        Ok(if path(cgroup, "blkio", &bfq)?.exists() { bfq } else { name.to_owned() })
    };
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        set(cgroup, "blkio", &weight_file("blkio.weight")?, &weight.to_string())?;
    }
    for device in &io.weight_device {
        if let Some(weight) = device.weight {
            let value = format!("{}:{} {weight}", device.major, device.minor);
            set(cgroup, "blkio", &weight_file("blkio.weight_device")?, &value)?;
        }
    }
    let throttles: [(&str, &[ThrottleDevice]); 4] = [
        ("blkio.throttle.read_bps_device", &io.throttle_read_bps_device),
        ("blkio.throttle.write_bps_device", &io.throttle_write_bps_device),
        ("blkio.throttle.read_iops_device", &io.throttle_read_iops_device),
        ("blkio.throttle.write_iops_device", &io.throttle_write_iops_device),
    ];
    for (file, devices) in throttles {
        for device in devices {
            set(cgroup, "blkio", file, &format!("{}:{} {}", device.major, device.minor, device.rate))?;
        }
    }
    Ok(())
}

pub(super) fn apply_devices(cgroup: &Cgroup, rules: &[DeviceRule]) -> Result<()> {
    if cgroup.dir("devices").is_none() && super::device_rules::allow_everything(rules) {
        return Ok(());
    }
    for rule in rules {
        let file = if rule.allow { "devices.allow" } else { "devices.deny" };
        set(cgroup, "devices", file, &super::device_rules::v1_text(rule))?;
    }
    Ok(())
}

pub(super) fn freeze(cgroup: &Cgroup, frozen: bool) -> Result<()> {
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    let file = path(cgroup, "freezer", "freezer.state")?;
    let deadline = Instant::now() + FREEZE_TIMEOUT;
    loop {
        match write_raw(&file, wanted) {
            Err(e) if is_gone(&e) && !frozen => return Ok(()),
            other => other.doing(|| format!("write {wanted} to {}", file.display()))?,
        }
        let state = std::fs::read_to_string(&file).doing(|| format!("read {}", file.display()))?;
        if state.trim() == wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            // Half frozen is worse than not at all.
            let _ = write_raw(&file, "THAWED");
            return Err(Error::State(format!(
                "the cgroup is still {} after {FREEZE_TIMEOUT:?}",
                state.trim()
            )));
        }
        std::thread::sleep(FREEZE_RETRY);
    }
}
