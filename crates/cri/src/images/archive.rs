//! Random access to the files of a tar archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decompress::{decompress, is_compressed};
use super::digest::Digest;
use super::manifest::MAX_JSON_BYTES;
use crate::error::{Error, Result};

/// More files than an archive of images has.
const MAX_FILES: usize = 100_000;
/// How many links may lead from one name to a file.
const MAX_LINKS: usize = 8;

/// An archive with its table of contents.
pub struct TarIndex {
    file: Arc<File>,
    entries: BTreeMap<PathBuf, Found>,
}

enum Found {
    File { offset: u64, size: u64 },
    Link(PathBuf),
}

/// A part of a file, read independently of others.
pub struct Section {
    file: Arc<File>,
    offset: u64,
    end: u64,
}

impl TarIndex {
    /// Reads through an archive, plain or compressed as a whole; `scratch` gives a file to decompress it to.
    pub fn new(mut file: File, scratch: impl FnOnce() -> Result<File>) -> Result<Self> {
        let broken = |e: io::Error| Error::Image(format!("not a readable tar archive: {e}"));
        let mut start = [0; 4];
        let count = file.read_at(&mut start, 0).map_err(broken)?;
        file.seek(SeekFrom::Start(0)).map_err(broken)?;
        if is_compressed(&start[..count]) {
            let mut plain = scratch()?;
            io::copy(&mut decompress(file)?, &mut plain).map_err(broken)?;
            plain.flush().and_then(|()| plain.seek(SeekFrom::Start(0))).map_err(broken)?;
            file = plain;
        }
        let length = file.metadata().map_err(broken)?.len();
        let mut entries = BTreeMap::new();
        let mut archive = tar::Archive::new(&mut file);
        for entry in archive.entries_with_seek().map_err(broken)? {
            let entry = entry.map_err(broken)?;
            let path = clean(&entry.path().map_err(broken)?);
            let found = if entry.header().entry_type().is_file() {
                let (offset, size) = (entry.raw_file_position(), entry.size());
                if offset + size > length {
                    return Err(Error::Image(format!("the archive is cut off inside of {}", path.display())));
                }
                Found::File { offset, size }
            } else if let Some(target) = entry.link_name().map_err(broken)? {
                Found::Link(link_target(&path, &target, entry.header().entry_type()))
            } else {
                continue;
            };
            entries.insert(path, found);
            if entries.len() > MAX_FILES {
                return Err(Error::Image(format!("the archive has more than {MAX_FILES} files")));
            }
        }
        if entries.is_empty() {
            return Err(Error::Image("not a tar archive, or an empty one".to_owned()));
        }
        Ok(Self { file: Arc::new(file), entries })
    }

    /// True if there is a file of that name.
    pub fn has(&self, path: &str) -> bool {
        self.section(path).is_ok()
    }

    /// The content of a file, to be read at any time, also on other threads.
    pub fn section(&self, path: &str) -> Result<Section> {
        let missing = || Error::Image(format!("the archive has no file {path:?}"));
        let mut name = clean(Path::new(path));
        for _ in 0..MAX_LINKS {
            match self.entries.get(&name).ok_or_else(missing)? {
                Found::File { offset, size } => {
                    return Ok(Section { file: self.file.clone(), offset: *offset, end: offset + size });
                }
                Found::Link(target) => name = target.clone(),
            }
        }
        Err(missing())
    }

    /// A small file whole.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let section = self.section(path)?;
        if section.len() > MAX_JSON_BYTES {
            return Err(Error::Image(format!("{path:?} is larger than {MAX_JSON_BYTES} bytes")));
        }
        let mut bytes = Vec::new();
        let mut section = section;
        section.read_to_end(&mut bytes).map_err(|e| Error::Image(format!("read {path:?}: {e}")))?;
        Ok(bytes)
    }

    /// A small blob of an OCI layout whole, verified.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let bytes = self.read(&blob_path(digest))?;
        let got = Digest::of(&bytes);
        if got != *digest {
            return Err(Error::Image(format!("blob {digest} is damaged: its content has digest {got}")));
        }
        Ok(bytes)
    }
}

/// Where an OCI layout keeps a blob.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn clean(path: &Path) -> PathBuf {
    crate::snapshots::clean_path(path)
}

/// Symbolic links start at their own directory, hard links at the archive's root.
fn link_target(path: &Path, target: &Path, kind: tar::EntryType) -> PathBuf {
    match (kind.is_symlink(), path.parent()) {
        (true, Some(dir)) => clean(&dir.join(target)),
        _ => clean(target),
    }
}

impl Section {
    /// How long it is, in bytes.
    pub fn len(&self) -> u64 {
        self.end - self.offset
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.len()).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..want], self.offset)?;
        if count == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        Ok(count)
    }
}
