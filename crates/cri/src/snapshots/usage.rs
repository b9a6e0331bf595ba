//! How much space a directory takes.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::ops::Add;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};

/// `st_blocks` counts these.
const BLOCK_BYTES: u64 = 512;

/// Space on a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Allocated bytes.
    pub bytes: u64,
    /// Files and directories; a file with several names counts once.
    pub inodes: u64,
}

impl Usage {
    /// Measures a directory tree; what vanishes meanwhile is not counted. Blocks.
    pub fn of(root: &Path) -> Result<Self> {
        let mut usage = Self::default();
        let mut linked = HashSet::new();
        let mut pending = vec![root.to_owned()];
        while let Some(dir) = pending.pop() {
            let entries = match fs::read_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(Error::io("list", &dir))?,
            };
            for entry in entries.filter_map(io::Result::ok) {
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    pending.push(entry.path());
                } else if metadata.nlink() > 1 && !linked.insert(metadata.ino()) {
                    continue;
                }
                usage.bytes += metadata.blocks() * BLOCK_BYTES;
                usage.inodes += 1;
            }
        }
        Ok(usage)
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, inodes: self.inodes + other.inodes }
    }
}
