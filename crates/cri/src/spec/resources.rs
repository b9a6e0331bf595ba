//! Limits.

use proto::cri::v1::LinuxContainerResources;
use serde_json::{Value, json};

use super::HostFacts;

/// The OCI form of CRI's limits; zeros and empty texts mean that nothing is asked for.
pub fn linux_resources(asked: Option<&LinuxContainerResources>, host: &HostFacts) -> Value {
    let mut out = json!({});
    let Some(asked) = asked else { return out };
    for (key, value) in
        [("shares", asked.cpu_shares), ("quota", asked.cpu_quota), ("period", asked.cpu_period)]
    {
        if value != 0 {
            out["cpu"][key] = value.into();
        }
    }
    for (key, value) in [("cpus", &asked.cpuset_cpus), ("mems", &asked.cpuset_mems)] {
        if !value.is_empty() {
            out["cpu"][key] = value.as_str().into();
        }
    }
    if asked.memory_limit_in_bytes != 0 {
        out["memory"]["limit"] = asked.memory_limit_in_bytes.into();
        // The swap limit counts memory and swap; the same number means no swap.
        let swap = match asked.memory_swap_limit_in_bytes {
            0 => asked.memory_limit_in_bytes,
            swap => swap,
        };
        if host.swap_limit {
            out["memory"]["swap"] = swap.into();
        }
    }
    if host.hugetlb && !asked.hugepage_limits.is_empty() {
        let limits = asked.hugepage_limits.iter();
        out["hugepageLimits"] =
            limits.map(|l| json!({"pageSize": l.page_size, "limit": l.limit})).collect::<Vec<_>>().into();
    }
    if host.unified_cgroups && !asked.unified.is_empty() {
        out["unified"] = json!(asked.unified);
    }
    out
}
