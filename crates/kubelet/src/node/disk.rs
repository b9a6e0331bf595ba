//! How full file systems are.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// The usage of a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in all.
    pub capacity: u64,
    /// Bytes that can still be used.
    pub available: u64,
    /// Files in all.
    pub inodes: u64,
    /// Files that can still be made.
    pub inodes_free: u64,
}

impl Usage {
    /// Bytes used.
    pub fn used(&self) -> u64 {
        self.capacity.saturating_sub(self.available)
    }
}

/// The usage of the file system that `path` lies on.
pub fn usage(path: &Path) -> io::Result<Usage> {
    let stat = statvfs(path)?;
    Ok(Usage {
        capacity: stat.f_blocks * stat.f_frsize,
        available: stat.f_bavail * stat.f_frsize,
        inodes: stat.f_files,
        inodes_free: stat.f_favail,
    })
}
