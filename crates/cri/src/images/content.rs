//! Blobs by digest: verified before they get their name, resumable while they do not have it yet.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::digest::{Digest, Hasher};
use super::manifest::MAX_JSON_BYTES;
use crate::disk;
use crate::error::{Error, Result};

const READ_BUFFER_BYTES: usize = 256 << 10;
/// How long an interrupted download is kept for resuming.
const MAX_PARTIAL_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A directory of blobs.
#[derive(Debug, Clone)]
pub struct ContentStore {
    blobs: PathBuf,
    partial: PathBuf,
}

/// A blob being written.
pub struct Ingest {
    store: ContentStore,
    digest: Digest,
    file: File,
    hasher: Hasher,
    written: u64,
}

impl ContentStore {
    /// Opens the store in `root`, making it if needed.
    pub fn open(root: &Path) -> Result<Self> {
        let store = Self { blobs: root.join("blobs/sha256"), partial: root.join("partial") };
        disk::make_private_dir(&store.blobs)?;
        disk::make_private_dir(&store.partial)?;
        Ok(store)
    }

    /// Where the blob is, if it is there.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// True if the whole blob is there.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Opens a blob for reading.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).map_err(Error::io("open blob", &path))
    }

    /// Reads a small blob whole.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut limited = self.open_blob(digest)?.take(MAX_JSON_BYTES + 1);
        limited.read_to_end(&mut bytes).map_err(Error::io("read blob", &self.path(digest)))?;
        if bytes.len() as u64 > MAX_JSON_BYTES {
            return Err(Error::Image(format!("{digest} is larger than {MAX_JSON_BYTES} bytes")));
        }
        Ok(bytes)
    }

    /// Keeps `bytes` and gives their digest.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.has(&digest) {
            let path = self.path(&digest);
            disk::write_atomic(&path, bytes).map_err(Error::io("write blob", &path))?;
        }
        Ok(digest)
    }

    /// Begins to write a blob, after what an earlier try left. One writer per digest at a time, the caller's care.
    pub fn resume(&self, digest: &Digest) -> Result<Ingest> {
        let path = self.partial.join(digest.hex());
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let (mut hasher, mut written) = (Hasher::default(), 0);
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            match file.read(&mut buffer).map_err(Error::io("read", &path))? {
                0 => break,
                count => {
                    hasher.update(&buffer[..count]);
                    written += count as u64;
                }
            }
        }
        Ok(Ingest { store: self.clone(), digest: digest.clone(), file, hasher, written })
    }

    /// Begins to write a blob from its start.
    pub fn restart(&self, digest: &Digest) -> Result<Ingest> {
        let path = self.partial.join(digest.hex());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => self.resume(digest),
        }
    }

    /// Removes a blob; not an error if it is not there.
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// All blobs with their sizes.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let failed = |e| Error::io("list", &self.blobs)(e);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.blobs).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(digest) = Digest::from_hex(&entry.file_name().to_string_lossy()) else { continue };
            if let Ok(metadata) = entry.metadata() {
                found.push((digest, metadata.len()));
            }
        }
        Ok(found)
    }

    /// A new empty file for an upload of unknown digest; it has no name, so a crash leaves nothing.
    pub fn scratch_file(&self) -> Result<File> {
        use std::os::unix::fs::OpenOptionsExt;
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o600)
            .open(&self.partial)
            .map_err(Error::io("make a file in", &self.partial))
    }

    /// Removes what downloads left that nobody took up again for a day.
    pub fn remove_stale_partial(&self) -> Result<()> {
        let failed = |e| Error::io("list", &self.partial)(e);
        for entry in fs::read_dir(&self.partial).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > MAX_PARTIAL_AGE) {
                fs::remove_file(entry.path()).map_err(Error::io("remove", &entry.path()))?;
            }
        }
        Ok(())
    }
}

impl Ingest {
    /// How much there is already.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let path = self.store.partial.join(self.digest.hex());
        self.file.write_all(bytes).map_err(Error::io("write", &path))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Checks the digest, makes the content durable and gives it its name; its size. What does not match is removed.
    pub fn commit(self) -> Result<u64> {
        let partial = self.store.partial.join(self.digest.hex());
        let got = self.hasher.finish();
        if got != self.digest {
            fs::remove_file(&partial).map_err(Error::io("remove", &partial))?;
            return Err(Error::Image(format!("content has digest {got}, expected {}", self.digest)));
        }
        self.file.sync_all().map_err(Error::io("sync", &partial))?;
        let path = self.store.path(&self.digest);
        fs::rename(&partial, &path).map_err(Error::io("rename", &partial))?;
        disk::sync_dir(&self.store.blobs).map_err(Error::io("sync", &self.store.blobs))?;
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_resumes_and_is_verified() {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        let digest = Digest::of(b"hello world");
        store.resume(&digest).unwrap().write(b"hello ").unwrap();
        let mut again = store.resume(&digest).unwrap();
        assert_eq!(again.written(), 6);
        again.write(b"world").unwrap();
        assert!(!store.has(&digest));
        assert_eq!(again.commit().unwrap(), 11);
        assert_eq!(store.read(&digest).unwrap(), b"hello world");
        assert_eq!(store.list().unwrap(), [(digest, 11)]);
    }

    #[test]
    fn wrong_content_gets_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = ContentStore::open(dir.path()).unwrap();
        let digest = Digest::of(b"right");
        let mut ingest = store.resume(&digest).unwrap();
        ingest.write(b"wrong").unwrap();
        let error = ingest.commit().unwrap_err().to_string();
        assert!(error.contains("expected"), "{error}");
        assert!(!store.has(&digest));
        assert_eq!(store.resume(&digest).unwrap().written(), 0);
    }
}
