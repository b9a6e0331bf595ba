//! Facts of the machine, read once.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;

use base::Quantity;
use base::quantity::Format;

use super::disk;
use crate::config::Config;
use crate::pod::resources::Amounts;

/// CAP_SYS_RESOURCE, which lowering an out-of-memory score needs.
const CAP_SYS_RESOURCE: u32 = 24;

/// What the machine has, and what of it pods can have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// All of it.
    pub capacity: Amounts,
    /// What is left for pods.
    pub allocatable: Amounts,
}

impl Machine {
    /// Looks at the machine.
    pub fn detect(config: &Config) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as i64);
        let memory = memory_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
        let storage = disk::usage(&config.root_dir).unwrap_or_default().capacity;
        let mut capacity = Amounts::from([
            ("cpu".to_owned(), Quantity::from_units(cpus, Format::DecimalSi)),
            ("memory".to_owned(), Quantity::from_units(memory, Format::BinarySi)),
            ("ephemeral-storage".to_owned(), Quantity::from_units(storage as i64, Format::BinarySi)),
            ("pods".to_owned(), Quantity::from_units(config.max_pods.into(), Format::DecimalSi)),
        ]);
        capacity.extend(huge_pages(Path::new("/sys/kernel/mm/hugepages")));
        let allocatable = allocatable(&capacity, config);
        Self { capacity, allocatable }
    }

    /// Bytes of memory in all.
    pub fn memory(&self) -> i64 {
        self.capacity.get("memory").map_or(0, |q| q.value())
    }
}

/// Capacity less what is reserved and what eviction keeps free.
fn allocatable(capacity: &Amounts, config: &Config) -> Amounts {
    let reserved = |name: &str| {
        let lists = [&config.kube_reserved, &config.system_reserved];
        let parts = lists.into_iter().filter_map(|list| Quantity::parse(list.get(name)?).ok());
        parts.fold(Quantity::ZERO, |sum, part| sum + part)
    };
    let mut left = Amounts::new();
    for (name, total) in capacity {
        let signal = match name.as_str() {
            "memory" => "memory.available",
            "ephemeral-storage" => "nodefs.available",
            _ => "",
        };
        let kept =
            config.eviction_hard.get(signal).map_or(0, |threshold| threshold_bytes(threshold, total.value()));
        let rest = *total - reserved(name) - Quantity::from_units(kept, total.format());
        let rest = if rest.sign() < 0 { Quantity::ZERO } else { rest };
        // As upstream, storage is told in bytes.
        let plain = name == "ephemeral-storage";
        left.insert(
            name.clone(),
            if plain { Quantity::from_units(rest.value(), Format::DecimalSi) } else { rest },
        );
    }
    left
}

/// `100Mi` or `10%` of `total`, in bytes.
pub fn threshold_bytes(threshold: &str, total: i64) -> i64 {
    match threshold.strip_suffix('%').and_then(|percent| percent.parse::<f64>().ok()) {
        Some(percent) => (total as f64 * percent / 100.0) as i64,
        None => Quantity::parse(threshold).map_or(0, |q| q.value()),
    }
}

fn memory_bytes(meminfo: &str) -> i64 {
    field_kib(meminfo, "MemTotal:") * 1024
}

fn field_kib(meminfo: &str, name: &str) -> i64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Bytes of memory that new processes can have.
pub fn memory_available() -> i64 {
    field_kib(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable:") * 1024
}

fn huge_pages(folder: &Path) -> Amounts {
    let mut all = Amounts::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(kib) =
            name.strip_prefix("hugepages-").and_then(|n| n.strip_suffix("kB")?.parse::<i64>().ok())
        else {
            continue;
        };
        let count = fs::read_to_string(entry.path().join("nr_hugepages")).unwrap_or_default();
        let bytes = kib * 1024 * count.trim().parse::<i64>().unwrap_or(0);
        let size = Quantity::from_units(kib * 1024, Format::BinarySi);
        all.insert(format!("hugepages-{size}"), Quantity::from_units(bytes, Format::BinarySi));
    }
    all
}

/// The node's address: as configured, else the source address of the default route, else loopback.
pub fn node_address(configured: Option<IpAddr>) -> IpAddr {
    configured.or_else(default_source).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Connecting a datagram socket sends nothing: the kernel only chooses the route.
fn default_source() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_unspecified())
}

/// The lowest out-of-memory score that this process may give its children: its own without CAP_SYS_RESOURCE.
pub fn min_oom_score_adj() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    if effective >> CAP_SYS_RESOURCE & 1 == 1 {
        return -1000;
    }
    let own = fs::read_to_string("/proc/self/oom_score_adj")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    tracing::warn!(
        least = own,
        "no CAP_SYS_RESOURCE: out-of-memory scores of pods are not set below the kubelet's own"
    );
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_for_pods() {
        let q = |text: &str| Quantity::parse(text).unwrap();
        let capacity = Amounts::from([
            ("cpu".to_owned(), q("4")),
            ("memory".to_owned(), q("8Gi")),
            ("ephemeral-storage".to_owned(), q("100Gi")),
            ("pods".to_owned(), q("110")),
        ]);
        let mut config = Config::new("n", "/x", "/y");
        config.kube_reserved =
            [("cpu".to_owned(), "500m".to_owned()), ("memory".to_owned(), "1Gi".to_owned())].into();
        let left = allocatable(&capacity, &config);
        assert_eq!(left["cpu"].to_string(), "3500m");
        assert_eq!(left["memory"].to_string(), "7068Mi");
        assert_eq!(left["ephemeral-storage"].to_string(), "96636764160");
        assert_eq!(left["pods"].to_string(), "110");
    }

    #[test]
    fn meminfo() {
        assert_eq!(memory_bytes("MemTotal:       16384 kB\nMemFree: 1 kB\n"), 16 << 20);
    }
}
