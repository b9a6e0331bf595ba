//! A directory of the operating system.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::{Disk, DiskFile};

const LOCK_FILE: &str = "LOCK";
/// Bytes of a new file that are written between two syncs, so that the log's own syncs do not wait long for them.
const ZEROS_AT_ONCE: u64 = 1 << 20;
const PAGE: usize = 4096;

/// Files in a directory that only the owner may read.
pub struct DirDisk {
    dir: PathBuf,
    lock: Mutex<Option<File>>,
}

impl DirDisk {
    /// The disk of `dir`, which is made if it is not there.
    pub fn new(dir: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: dir.to_owned(), lock: Mutex::new(None) })
    }

    fn reserve(&self, name: &str, size: u64) -> io::Result<File> {
        let file = Self::options().create(true).truncate(true).open(self.dir.join(name))?;
        if size > 0 {
            allocate(&file, size)?;
        }
        Ok(file)
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    }
}

impl Disk for DirDisk {
    fn lock(&self) -> io::Result<()> {
        let file = Self::options().create(true).truncate(false).open(self.dir.join(LOCK_FILE))?;
        match file.try_lock() {
            Ok(()) => {
                *self.lock.lock() = Some(file);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(DirFile(Self::options().open(self.dir.join(name))?)))
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = self.reserve(name, size)?;
        write_zeros(&file, size)?;
        file.sync_all()?;
        Ok(Box::new(DirFile(file)))
    }

    fn create_soon(&self, name: &str, size: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = self.reserve(name, size)?;
        file.sync_all()?;
        Ok(Box::new(DirFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.dir.clone() } else { self.dir.join(name) }
    }
}

/// Reserves the blocks; where the file system cannot, the file is only made that long.
fn allocate(file: &File, size: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(size),
        Err(error) => Err(error.into()),
    }
}

/// Writes every block. To blocks that were only reserved, each sync of the log would also have to write down that
/// they are in use now, which takes as long as the data itself.
fn write_zeros(file: &File, size: u64) -> io::Result<()> {
    // A page at a time: what is written at once is kept in one piece of that size, and each later write into it then
    // counts as that many bytes.
    let zeros = [0; PAGE];
    let mut at = 0;
    while at < size {
        let length = (size - at).min(PAGE as u64);
        file.write_all_at(&zeros[..length as usize], at)?;
        at += length;
        if at.is_multiple_of(ZEROS_AT_ONCE) {
            file.sync_data()?;
        }
    }
    Ok(())
}

struct DirFile(File);

impl DiskFile for DirFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}
