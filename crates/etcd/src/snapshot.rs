//! Snapshot files as `etcdctl snapshot save` and `corten etcd snapshot save` write them: the store's own format,
//! filled up to whole blocks, and the SHA-256 of all of it at the end.
//!
//! etcd's files are bbolt databases in the same frame. Neither reads the other's, and each says so.

use std::io::Write;
use std::path::Path;

use base::Clock;
use sha2::{Digest, Sha256};
use store::SnapshotFile;

/// What the part before the checksum is a multiple of; etcd's clients look at the rest to see whether there is one.
const BLOCK: u64 = 512;
const CHECKSUM: usize = 32;
/// Where a bbolt page has its magic number, and what it is there.
const BBOLT_MAGIC_AT: usize = 16;
const BBOLT_MAGIC: u32 = 0xED0C_DAED;

/// Why a file is not taken as a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It could not be read or written.
    #[error("{operation} {file}")]
    Io {
        /// What was done.
        operation: &'static str,
        /// With which file.
        file: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is etcd's.
    #[error(
        "{0} is a snapshot of etcd (a bbolt database), which Corten cannot read; copy the keys with a client, or restore it with etcdutl"
    )]
    Bbolt(String),
    /// It has no checksum where one belongs.
    #[error("{0} has no checksum at its end: it was cut short, or is no snapshot")]
    NoChecksum(String),
    /// It changed since it was written.
    #[error("{0} is damaged: its checksum does not match")]
    Checksum(String),
    /// It is not of the store's format.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Zero bytes that follow a snapshot of `length` bytes.
pub fn padding(length: u64) -> usize {
    (BLOCK - length % BLOCK) as usize % BLOCK as usize
}

fn io(operation: &'static str, file: &Path) -> impl FnOnce(std::io::Error) -> SnapshotError {
    let file = file.display().to_string();
    move |source| SnapshotError::Io { operation, file, source }
}

/// The checksum that a snapshot file ends with, which tells it from others.
///
/// # Errors
/// [`SnapshotError::Io`], [`SnapshotError::NoChecksum`].
pub fn checksum(file: &Path) -> Result<[u8; CHECKSUM], SnapshotError> {
    let bytes = std::fs::read(file).map_err(io("read", file))?;
    bytes.last_chunk().copied().ok_or_else(|| SnapshotError::NoChecksum(file.display().to_string()))
}

/// Reads and checks a snapshot file; gives its size with it.
///
/// # Errors
/// See [`SnapshotError`].
pub fn read(file: &Path, clock: &dyn Clock) -> Result<(SnapshotFile, u64), SnapshotError> {
    let bytes = std::fs::read(file).map_err(io("read", file))?;
    let name = || file.display().to_string();
    let magic = bytes.get(BBOLT_MAGIC_AT..BBOLT_MAGIC_AT + 4);
    if magic.is_some_and(|magic| magic == BBOLT_MAGIC.to_le_bytes()) {
        return Err(SnapshotError::Bbolt(name()));
    }
    if bytes.len() as u64 % BLOCK != CHECKSUM as u64 {
        return Err(SnapshotError::NoChecksum(name()));
    }
    let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
    if Sha256::digest(content)[..] != *checksum {
        return Err(SnapshotError::Checksum(name()));
    }
    Ok((SnapshotFile::decode(content, file, clock)?, bytes.len() as u64))
}

/// Writes a file that appears under its name when it is whole and on disk.
pub struct Writer {
    file: std::fs::File,
    partial: std::path::PathBuf,
    target: std::path::PathBuf,
}

impl Writer {
    /// Begins beside `target`.
    pub fn create(target: &Path) -> Result<Self, SnapshotError> {
        let mut partial = target.as_os_str().to_owned();
        partial.push(".part");
        let partial = std::path::PathBuf::from(partial);
        let file = std::fs::File::create(&partial).map_err(io("create", &partial))?;
        Ok(Self { file, partial, target: target.to_owned() })
    }

    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.file.write_all(bytes).map_err(io("write", &self.partial))
    }

    /// Gives the file its name, if it is a whole snapshot.
    pub fn finish(self, clock: &dyn Clock) -> Result<(SnapshotFile, u64), SnapshotError> {
        self.file.sync_all().map_err(io("sync", &self.partial))?;
        let read = read(&self.partial, clock)?;
        std::fs::rename(&self.partial, &self.target).map_err(io("rename", &self.partial))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_snapshot_is_refused_by_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("db");
        let refusal = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            read(&file, &base::SystemClock).err().unwrap()
        };
        let mut bolt = vec![0; 4096];
        bolt[BBOLT_MAGIC_AT..BBOLT_MAGIC_AT + 4].copy_from_slice(&BBOLT_MAGIC.to_le_bytes());
        assert!(matches!(refusal(&bolt), SnapshotError::Bbolt(_)));
        assert!(matches!(refusal(b"short"), SnapshotError::NoChecksum(_)));
        assert!(matches!(refusal(&[7; 544]), SnapshotError::Checksum(_)));
        assert_eq!((padding(0), padding(1), padding(512), padding(513)), (0, 511, 0, 511));
    }
}
