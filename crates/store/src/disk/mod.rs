//! The few things that the store asks of a disk, so that a simulated one can fail and crash between any two of them.

mod real;
pub mod sim;

use std::io;

pub use real::DirDisk;

/// A directory of files.
pub trait Disk: Send + Sync + 'static {
    /// Takes the directory for this process until the disk is dropped; `WouldBlock` if another has it.
    fn lock(&self) -> io::Result<()>;
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file that is there.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Makes a file of `size` zero bytes with its blocks allocated, and syncs it but not its name. An old file of
    /// that name is gone.
    fn create(&self, name: &str, size: u64) -> io::Result<Box<dyn DiskFile>>;
    /// The same for who waits for it: sooner done, though what is written into it may take longer.
    fn create_soon(&self, name: &str, size: u64) -> io::Result<Box<dyn DiskFile>> {
        self.create(name, size)
    }
    /// Gives a file another name, atomically.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable: creations, renames and removals.
    fn sync_names(&self) -> io::Result<()>;
    /// The path of a file, or of the directory for an empty name; for messages.
    fn path(&self, name: &str) -> std::path::PathBuf;
}

/// A file of a [`Disk`].
pub trait DiskFile: Send {
    /// Bytes in the file.
    fn size(&self) -> io::Result<u64>;
    /// Fills `buffer` from `offset`; fails at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `data` at `offset`, growing the file if need be.
    fn write_at(&mut self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}
