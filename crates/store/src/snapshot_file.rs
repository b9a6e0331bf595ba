//! Snapshot files outside of a data directory: what one holds, and a data directory made of one.

use std::path::Path;
use std::sync::Arc;

use base::Clock;

use crate::disk::{DirDisk, Disk};
use crate::lease::Moment;
use crate::log::{SnapshotMeta, decode_snapshot, write_snapshot};
use crate::replicated::{first_identity, with_identity};
use crate::state::State;
use crate::{Config, Error, Member, MemberId, Revision, embedded};

/// What a snapshot file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The store's revision when it was taken.
    pub revision: Revision,
    /// Keys in it.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Bytes of the file that belong to the snapshot; others may follow.
    pub length: u64,
}

/// A snapshot in memory, checked.
pub struct SnapshotFile {
    state: State,
    meta: SnapshotMeta,
    length: usize,
}

impl SnapshotFile {
    /// Checks and decodes `bytes`, which came from the file `name`.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn decode(bytes: &[u8], name: &Path, clock: &dyn Clock) -> Result<Self, Error> {
        let (state, meta, length) = decode_snapshot(bytes, name, Moment::of(clock))?;
        Ok(Self { state, meta, length })
    }

    /// What it holds.
    pub fn info(&self) -> SnapshotInfo {
        SnapshotInfo {
            revision: self.state.revision,
            keys: self.state.map.len() as u64,
            bytes: self.state.bytes as u64,
            length: self.length as u64,
        }
    }

    /// Makes an embedded store of it in `config.dir`, which must be empty or not there.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is something in the directory; [`Error::Io`], [`Error::NoSpace`].
    pub fn restore(&self, config: &Config, clock: &dyn Clock) -> Result<(), Error> {
        self.write(&self.state, config, clock)
    }

    /// The same for one of the first `members` of a new cluster; each of them must be made of the same file.
    ///
    /// # Errors
    /// As [`SnapshotFile::restore`].
    pub fn restore_member(
        &self,
        config: &Config,
        members: &[Member],
        own: MemberId,
        cluster_id: u64,
        clock: &dyn Clock,
    ) -> Result<(), Error> {
        let identity = first_identity(members, own, cluster_id);
        self.write(&with_identity(self.state.clone(), &identity), config, clock)
    }

    fn write(&self, state: &State, config: &Config, clock: &dyn Clock) -> Result<(), Error> {
        let io = |operation| {
            let file = config.dir.clone();
            move |source| Error::Io { operation, file, source: Arc::new(source) }
        };
        let disk: Arc<dyn Disk> = Arc::new(DirDisk::new(&config.dir).map_err(io("create"))?);
        if !disk.list().map_err(io("list"))?.is_empty() {
            return Err(Error::Invalid("the data directory is not empty"));
        }
        drop(embedded::recovered(disk.clone(), config, Moment::of(clock))?);
        // The log's first frame is the one after it.
        let meta = SnapshotMeta { seq: 0, ..self.meta };
        write_snapshot(&*disk, state, meta)
    }
}
