//! Files that are read again when they change.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Files are looked at this often. The kernel could tell of changes, but not of those behind a symbolic link, by
/// which mounted Secrets and ConfigMaps are replaced.
const INTERVAL: Duration = Duration::from_secs(2);

/// Notices that a file was replaced.
pub struct FileWatch {
    path: PathBuf,
    seen: Option<(SystemTime, u64, u64)>,
}

impl FileWatch {
    /// From the file as it is now.
    pub fn new(path: PathBuf) -> Self {
        let mut watch = Self { path, seen: None };
        watch.seen = watch.stamp();
        watch
    }

    fn stamp(&self) -> Option<(SystemTime, u64, u64)> {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(&self.path).ok()?;
        Some((meta.modified().ok()?, meta.ino(), meta.size()))
    }

    /// Waits until it is another file than before.
    pub async fn changed(&mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let stamp = self.stamp();
            if stamp.is_some() && stamp != self.seen {
                self.seen = stamp;
                return;
            }
        }
    }
}
