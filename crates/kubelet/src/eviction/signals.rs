//! What is watched, and when it is too little.

use std::collections::BTreeMap;
use std::path::Path;

use base::Quantity;
use base::quantity::Format;
use proto::cri::v1::ImageFsInfoRequest;

use crate::node::{disk, memory_available, threshold_bytes};
use crate::shared::Shared;

/// An eviction signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// `memory.available`.
    MemoryAvailable,
    /// `nodefs.available`.
    NodefsAvailable,
    /// `nodefs.inodesFree`.
    NodefsInodes,
    /// `imagefs.available`.
    ImagefsAvailable,
    /// `imagefs.inodesFree`.
    ImagefsInodes,
    /// `pid.available`.
    PidAvailable,
}

impl Signal {
    const ALL: [Self; 6] = [
        Self::MemoryAvailable,
        Self::NodefsAvailable,
        Self::NodefsInodes,
        Self::ImagefsAvailable,
        Self::ImagefsInodes,
        Self::PidAvailable,
    ];

    /// As in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::NodefsAvailable => "nodefs.available",
            Self::NodefsInodes => "nodefs.inodesFree",
            Self::ImagefsAvailable => "imagefs.available",
            Self::ImagefsInodes => "imagefs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }

    /// The resource that is short, as messages name it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory",
            Self::NodefsAvailable | Self::ImagefsAvailable => "ephemeral-storage",
            Self::NodefsInodes | Self::ImagefsInodes => "inodes",
            Self::PidAvailable => "pids",
        }
    }

    /// True for disk space and inodes.
    pub fn is_disk(&self) -> bool {
        !matches!(self, Self::MemoryAvailable | Self::PidAvailable)
    }
}

/// What a signal says: how much there is of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub available: i64,
    pub capacity: i64,
}

/// A signal below its threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    pub signal: Signal,
    pub available: i64,
    pub threshold: i64,
}

impl Breach {
    /// The message of pods that are evicted for it.
    pub fn message(&self) -> String {
        let binary =
            !matches!(self.signal, Signal::NodefsInodes | Signal::ImagefsInodes | Signal::PidAvailable);
        let show =
            |n: i64| Quantity::from_units(n, if binary { Format::BinarySi } else { Format::DecimalSi });
        format!(
            "The node was low on resource: {}. Threshold quantity: {}, available: {}. ",
            self.signal.resource(),
            show(self.threshold),
            show(kib(self.available, binary)),
        )
    }
}

/// Byte counts are told in whole KiB.
fn kib(bytes: i64, binary: bool) -> i64 {
    if binary { bytes / 1024 * 1024 } else { bytes }
}

/// The signals that are below their thresholds now, memory first.
pub async fn breaches(shared: &Shared) -> Vec<Breach> {
    let image_fs = match shared.cri.image_fs_info(ImageFsInfoRequest {}).await {
        Ok(info) => info.image_filesystems.into_iter().next().and_then(|f| f.fs_id).map(|id| id.mountpoint),
        Err(_) => None,
    };
    let readings = readings(shared, image_fs.as_deref().map(Path::new));
    below(&readings, &shared.config.eviction_hard)
}

fn readings(shared: &Shared, image_fs: Option<&Path>) -> BTreeMap<Signal, Reading> {
    let mut readings = BTreeMap::new();
    let memory = Reading { available: memory_available(), capacity: shared.machine.memory() };
    readings.insert(Signal::MemoryAvailable, memory);
    let node_fs = Some(shared.config.root_dir.as_path());
    let disks = [
        (node_fs, Signal::NodefsAvailable, Signal::NodefsInodes),
        (image_fs, Signal::ImagefsAvailable, Signal::ImagefsInodes),
    ];
    for (path, space, inodes) in disks {
        let Some(usage) = path.and_then(|path| disk::usage(path).ok()) else { continue };
        readings
            .insert(space, Reading { available: usage.available as i64, capacity: usage.capacity as i64 });
        // Some file systems have no fixed number of inodes and tell none.
        if usage.inodes > 0 {
            readings.insert(
                inodes,
                Reading { available: usage.inodes_free as i64, capacity: usage.inodes as i64 },
            );
        }
    }
    if let Some(pids) = pids() {
        readings.insert(Signal::PidAvailable, pids);
    }
    readings
}

fn pids() -> Option<Reading> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let max: i64 = read("/proc/sys/kernel/pid_max")?.trim().parse().ok()?;
    let load = read("/proc/loadavg")?;
    let running: i64 = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(Reading { available: max - running, capacity: max })
}

fn below(readings: &BTreeMap<Signal, Reading>, thresholds: &BTreeMap<String, String>) -> Vec<Breach> {
    let breach = |signal: Signal| {
        let reading = readings.get(&signal)?;
        let threshold = threshold_bytes(thresholds.get(signal.as_str())?, reading.capacity);
        (reading.available < threshold).then_some(Breach { signal, available: reading.available, threshold })
    };
    Signal::ALL.into_iter().filter_map(breach).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        let readings = BTreeMap::from([
            (Signal::MemoryAvailable, Reading { available: 90 << 20, capacity: 1 << 30 }),
            (Signal::NodefsAvailable, Reading { available: 15, capacity: 100 }),
        ]);
        let thresholds = |memory: &str, disk: &str| {
            [("memory.available", memory), ("nodefs.available", disk)]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into_iter()
                .collect()
        };
        assert_eq!(below(&readings, &thresholds("50Mi", "10%")), []);
        let both = below(&readings, &thresholds("100Mi", "20%"));
        assert_eq!(
            both.iter().map(|b| b.signal).collect::<Vec<_>>(),
            [Signal::MemoryAvailable, Signal::NodefsAvailable]
        );
        assert_eq!(
            both[0].message(),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. "
        );
    }
}
