//! What containers and pods use.

mod cgroup;
mod network;
mod psi;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::cri::v1 as cri;

use crate::container::Container;
use crate::disk::{blocking, now_ns};
use crate::error::Result;
use crate::node::Node;
use crate::sandbox::{Sandbox, linux};
use crate::snapshots::Usage;
use cgroup::CgroupUsage;

/// How old a measurement of a container's files may be: counting them is work.
const DISK_USAGE_TTL: Duration = Duration::from_secs(10);
/// The shortest time over which a rate is computed.
const MIN_RATE_WINDOW_NS: i64 = 500_000_000;

/// Earlier measurements, for rates and for what is costly.
#[derive(Default)]
pub struct Samples {
    cpu: Mutex<HashMap<String, CpuSample>>,
    disk: Mutex<HashMap<String, (Instant, Usage)>>,
}

#[derive(Clone, Copy)]
struct CpuSample {
    at_ns: i64,
    usage_ns: u64,
    rate: Option<u64>,
}

impl Samples {
    /// Forgets a container or sandbox.
    pub fn forget(&self, id: &str) {
        self.cpu.lock().remove(id);
        self.disk.lock().remove(id);
    }

    /// Nanoseconds of CPU per second since the last time this was asked; `None` the first time.
    fn rate(&self, id: &str, at_ns: i64, usage_ns: u64) -> Option<u64> {
        let mut samples = self.cpu.lock();
        let Some(last) = samples.get(id).copied() else {
            samples.insert(id.to_owned(), CpuSample { at_ns, usage_ns, rate: None });
            return None;
        };
        let window = at_ns - last.at_ns;
        if window < MIN_RATE_WINDOW_NS {
            return last.rate;
        }
        let used = u128::from(usage_ns.saturating_sub(last.usage_ns));
        let rate = Some((used * 1_000_000_000 / window as u128) as u64);
        samples.insert(id.to_owned(), CpuSample { at_ns, usage_ns, rate });
        rate
    }
}

impl Node {
    /// The statistics of a container. Those of one that does not run say what its files take.
    pub async fn container_stats(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<cri::ContainerStats> {
        let (node, container) = (self.clone(), container.clone());
        blocking(move || node.measure_container(&container)).await
    }

    /// The statistics of a sandbox with its containers.
    pub async fn sandbox_stats(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<cri::PodSandboxStats> {
        let (node, sandbox) = (self.clone(), sandbox.clone());
        blocking(move || node.measure_sandbox(&sandbox)).await
    }

    fn measure_container(&self, container: &Container) -> Result<cri::ContainerStats> {
        let now = now_ns();
        let (config, dirs) = container.record.with(|r| (r.config.clone(), r.cgroups.clone()));
        let usage = if container.is_running() { CgroupUsage::read(&dirs) } else { CgroupUsage::default() };
        let disk = self.disk_usage(&container.id)?;
        let root = self.config.state_dir.join("snapshots").display().to_string();
        Ok(cri::ContainerStats {
            attributes: Some(cri::ContainerAttributes {
                id: container.id.clone(),
                metadata: config.metadata,
                labels: config.labels,
                annotations: config.annotations,
            }),
            cpu: self.cpu(&container.id, now, &usage),
            memory: usage.memory(now),
            writable_layer: Some(cri::FilesystemUsage {
                timestamp: now,
                fs_id: Some(cri::FilesystemIdentifier { mountpoint: root }),
                used_bytes: value(Some(disk.bytes)),
                inodes_used: value(Some(disk.inodes)),
            }),
            swap: usage.swap(now),
            io: usage.io(now),
        })
    }

    fn measure_sandbox(&self, sandbox: &Sandbox) -> Result<cri::PodSandboxStats> {
        let now = now_ns();
        let record = sandbox.record.get();
        let usage = CgroupUsage::read(&self.pod_cgroups(&linux(&record.config).cgroup_parent));
        let running = self.containers_of(&sandbox.id).into_iter().filter(|c| c.is_running());
        let containers = running.map(|c| self.measure_container(&c)).collect::<Result<_>>()?;
        let counters = match &record.netns {
            Some(path) if sandbox.is_ready() => network::usage(path, now),
            _ => None,
        };
        Ok(cri::PodSandboxStats {
            attributes: Some(cri::PodSandboxAttributes {
                id: sandbox.id.clone(),
                metadata: record.config.metadata.clone(),
                labels: record.config.labels.clone(),
                annotations: record.config.annotations.clone(),
            }),
            linux: Some(cri::LinuxPodSandboxStats {
                cpu: self.cpu(&sandbox.id, now, &usage),
                memory: usage.memory(now),
                network: counters,
                process: Some(cri::ProcessUsage { timestamp: now, process_count: value(usage.processes) }),
                containers,
                io: usage.io(now),
            }),
            windows: None,
        })
    }

    fn cpu(&self, id: &str, now: i64, usage: &CgroupUsage) -> Option<cri::CpuUsage> {
        let total = usage.cpu_ns?;
        Some(cri::CpuUsage {
            timestamp: now,
            usage_core_nano_seconds: value(Some(total)),
            usage_nano_cores: value(self.samples.rate(id, now, total)),
            psi: usage.cpu_psi,
        })
    }

    fn disk_usage(&self, id: &str) -> Result<Usage> {
        if let Some((at, usage)) = self.samples.disk.lock().get(id)
            && at.elapsed() < DISK_USAGE_TTL
        {
            return Ok(*usage);
        }
        let usage = self.snapshots.container_usage(id)?;
        self.samples.disk.lock().insert(id.to_owned(), (Instant::now(), usage));
        Ok(usage)
    }

    /// The directories of a pod's cgroup by controller, as a container's are.
    fn pod_cgroups(&self, parent: &str) -> BTreeMap<String, PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let below = parent.trim_start_matches('/');
        if below.is_empty() {
            return BTreeMap::new();
        }
        if self.host.unified_cgroups {
            return BTreeMap::from([(String::new(), root.join(below))]);
        }
        let controllers = ["cpuacct", "memory", "pids"];
        controllers.iter().map(|c| ((*c).to_owned(), root.join(c).join(below))).collect()
    }
}

fn value(number: Option<u64>) -> Option<cri::UInt64Value> {
    number.map(|value| cri::UInt64Value { value })
}
