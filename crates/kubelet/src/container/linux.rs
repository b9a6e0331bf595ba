//! CPU and memory of containers and pods in the kernel's units (upstream `cm.helpers_linux`).

use std::collections::HashMap;

use base::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};
use proto::cri::v1::{HugepageLimit, LinuxContainerResources};

use crate::pod::resources::{self, Amounts};

/// The CFS period, in microseconds.
pub const PERIOD_US: i64 = 100_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const MIN_QUOTA_US: i64 = 1000;

/// CPU shares (cgroup v1 scale) of a request in thousandths of a core.
pub fn cpu_shares(milli: i64) -> i64 {
    if milli == 0 { MIN_SHARES } else { (milli * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

/// CFS quota in microseconds per period of a limit in thousandths of a core; 0 is no limit.
pub fn cpu_quota_us(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli * PERIOD_US / 1000).max(MIN_QUOTA_US) }
}

/// `cpu.weight` of cgroup v2 for v1's shares: the curve of current OCI runtimes, on which 1024 becomes 100 (KEP-2254).
pub fn cpu_weight(shares: i64) -> i64 {
    match shares.clamp(MIN_SHARES, MAX_SHARES) {
        MIN_SHARES => 1,
        MAX_SHARES => 10_000,
        shares => {
            let l = (shares as f64).log2();
            10_f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as i64
        }
    }
}

/// What the node decides about resources.
#[derive(Debug, Clone, Copy)]
pub struct NodeLimits {
    /// Memory of the node in bytes.
    pub memory_capacity: i64,
    /// True with cgroup v2.
    pub unified: bool,
    /// The lowest score the kubelet may give: it may lack the right to go below its own.
    pub min_oom_score_adj: i64,
}

/// A container's resources.
pub fn container_resources(pod: &Pod, container: &Container, node: NodeLimits) -> LinuxContainerResources {
    let milli = |quantity: Option<Quantity>| quantity.map_or(0, |q| q.milli_value());
    let memory = resources::limit(container, "memory").map_or(0, |q| q.value());
    let score = resources::oom_score_adj(pod, container, node.memory_capacity);
    let mut linux = LinuxContainerResources {
        cpu_period: PERIOD_US,
        cpu_quota: cpu_quota_us(milli(resources::limit(container, "cpu"))),
        cpu_shares: cpu_shares(milli(resources::request(container, "cpu"))),
        memory_limit_in_bytes: memory,
        // No swap beyond memory, as upstream's NoSwap.
        memory_swap_limit_in_bytes: memory,
        oom_score_adj: score.max(node.min_oom_score_adj),
        ..Default::default()
    };
    linux.hugepage_limits = hugepage_limits(container);
    if node.unified {
        // An out-of-memory kill takes the whole container.
        linux.unified = HashMap::from([("memory.oom.group".to_owned(), "1".to_owned())]);
    }
    linux
}

/// Limits of `hugepages-2Mi` and the like; page sizes in the kernel's words, `2MB`.
fn hugepage_limits(container: &Container) -> Vec<HugepageLimit> {
    let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
    let sizes = limits.into_iter().flatten().filter_map(|(name, limit)| {
        let size = Quantity::parse(name.strip_prefix("hugepages-")?).ok()?.value();
        let page_size = match size {
            0x4000_0000.. => format!("{}GB", size >> 30),
            0x10_0000.. => format!("{}MB", size >> 20),
            _ => format!("{}KB", size >> 10),
        };
        let limit = u64::try_from(Quantity::parse(&limit.0).ok()?.value()).ok()?;
        Some(HugepageLimit { page_size, limit })
    });
    sizes.collect()
}

/// What the containers of a pod have together, for the runtime's sandbox, and its overhead.
pub fn sandbox_resources(pod: &Pod) -> LinuxContainerResources {
    of_amounts(&resources::pod_requests(pod), &limits_if_all(pod))
}

fn limits_if_all(pod: &Pod) -> Amounts {
    let mut limits = resources::pod_limits(pod);
    limits.retain(|name, _| resources::is_limited(pod, name));
    limits
}

fn of_amounts(requests: &Amounts, limits: &Amounts) -> LinuxContainerResources {
    let milli = |amounts: &Amounts| amounts.get("cpu").map_or(0, |q| q.milli_value());
    LinuxContainerResources {
        cpu_period: PERIOD_US,
        cpu_quota: cpu_quota_us(milli(limits)),
        cpu_shares: cpu_shares(milli(requests)),
        memory_limit_in_bytes: limits.get("memory").map_or(0, |q| q.value()),
        ..Default::default()
    }
}

/// The limits of a pod's cgroup: shares always, quota and memory where every container has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodLimits {
    /// CPU shares.
    pub cpu_shares: i64,
    /// Microseconds per period; 0 is no limit.
    pub cpu_quota_us: i64,
    /// Bytes; 0 is no limit.
    pub memory_bytes: i64,
    /// Processes; 0 is no limit.
    pub pids: i64,
}

/// The limits of the pod's cgroup (upstream `ResourceConfigForPod`).
pub fn pod_limits(pod: &Pod, pids: i64) -> PodLimits {
    let linux = sandbox_resources(pod);
    let best_effort = resources::qos_class(pod) == resources::QosClass::BestEffort;
    PodLimits {
        cpu_shares: if best_effort { MIN_SHARES } else { linux.cpu_shares },
        cpu_quota_us: linux.cpu_quota,
        memory_bytes: linux.memory_limit_in_bytes,
        pids: pids.max(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_units() {
        for (milli, shares, quota, weight) in [
            (0, 2, 0, 1),
            (1, 2, 1000, 1),
            (100, 102, 10_000, 17),
            (1000, 1024, 100_000, 100),
            (500_000, 262_144, 50_000_000, 10_000),
        ] {
            assert_eq!((cpu_shares(milli), cpu_quota_us(milli)), (shares, quota), "{milli}");
            assert_eq!(cpu_weight(shares), weight, "{milli}");
        }
    }

    #[test]
    fn a_pod_is_limited_where_all_its_containers_are() {
        let of = |json: serde_json::Value| {
            let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {"containers": json}})).unwrap();
            pod_limits(&pod, -1)
        };
        let limits = of(serde_json::json!([
            {"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}},
            {"name": "b", "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "100m"}}},
        ]));
        assert_eq!(limits, PodLimits { cpu_shares: 614, cpu_quota_us: 0, memory_bytes: 128 << 20, pids: 0 });
        assert_eq!(
            of(serde_json::json!([{"name": "a"}])),
            PodLimits { cpu_shares: 2, ..PodLimits::default() }
        );
    }
}
