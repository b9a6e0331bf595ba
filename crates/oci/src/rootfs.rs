//! Paths inside a container's root file system, which the container's image may have filled with symbolic links that
//! lead out of it. Nothing here follows one out.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, SFlag};

use crate::error::{Context, Error, Result};
use crate::sys;

/// As many links in a path as the kernel follows.
const MAX_LINKS: u32 = 40;

/// An open root.
#[derive(Debug)]
pub struct Rootfs {
    fd: OwnedFd,
}

/// What to make where a path ends and nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// A directory, mode 0755.
    Directory,
    /// An empty file, mode 0644.
    File,
}

impl Rootfs {
    /// The root that a directory, or the top of a mount, is.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// The open root.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens what is at `path` as a mere reference (O_PATH); `None` if there is nothing.
    pub fn find(&self, path: &str) -> Result<Option<OwnedFd>> {
        match self.open(path, libc::O_PATH) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
            other => other.map(Some).doing(|| format!("open {path} in the rootfs")),
        }
    }

    /// Opens what is at `path`.
    pub fn open(&self, path: &str, flags: i32) -> io::Result<OwnedFd> {
        let resolve = sys::RESOLVE_IN_ROOT | sys::RESOLVE_NO_MAGICLINKS;
        let path = path.trim_start_matches('/');
        sys::openat2(&self.fd, Path::new(if path.is_empty() { "." } else { path }), flags, 0, resolve)
    }

    /// Opens what is at `path` as a mere reference, making what is missing on the way.
    pub fn make(&self, path: &str, missing: Missing) -> Result<OwnedFd> {
        self.walk(path, missing).doing(|| format!("make {path} in the rootfs"))
    }

    /// The directory of `path`, made if missing, and the last part of the name.
    pub fn make_parent<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a OsStr)> {
        let path = Path::new(path);
        let name =
            path.file_name().ok_or_else(|| Error::Invalid(format!("{} has no name", path.display())))?;
        let parent = path.parent().and_then(Path::to_str).unwrap_or("/");
        Ok((self.make(parent, Missing::Directory)?, name))
    }

    /// One part of the path at a time, from descriptor to descriptor, so that a link that is swapped in meanwhile
    /// leads nowhere. Links that dangle are followed as well, and what they point to is made.
    fn walk(&self, path: &str, missing: Missing) -> io::Result<OwnedFd> {
        let mut todo = parts(OsStr::new(path));
        let mut stack = vec![self.fd.try_clone()?];
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == ".." {
                stack.truncate((stack.len() - 1).max(1));
                continue;
            }
            let Some(here) = stack.last() else { return Err(io::ErrorKind::NotFound.into()) };
            let last = todo.is_empty();
            let next = open_or_make(here, &part, if last { missing } else { Missing::Directory })?;
            match SFlag::from_bits_truncate(stat(&next)?.st_mode & SFlag::S_IFMT.bits()) {
                SFlag::S_IFLNK => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(io::Error::from_raw_os_error(libc::ELOOP));
                    }
                    let target = nix::fcntl::readlinkat(&next, "")?;
                    if target.as_bytes().starts_with(b"/") {
                        stack.truncate(1);
                    }
                    for part in parts(&target).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                SFlag::S_IFDIR => stack.push(next),
                _ if last => return Ok(next),
                _ => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            }
        }
        stack.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn parts(path: &OsStr) -> VecDeque<OsString> {
    Path::new(path)
        .components()
        .filter_map(|c| match c {
            Component::Normal(part) => Some(part.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

fn open_or_make(dir: &OwnedFd, name: &OsStr, missing: Missing) -> io::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    match sys::openat2(dir, Path::new(name), flags, 0, 0) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        other => return other,
    }
    let made = match missing {
        Missing::Directory => nix::sys::stat::mkdirat(dir, name, Mode::from_bits_truncate(0o755)),
        Missing::File => {
            nix::sys::stat::mknodat(dir, name, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0)
        }
    };
    match made {
        Ok(()) | Err(nix::Error::EEXIST) => sys::openat2(dir, Path::new(name), flags, 0, 0),
        Err(e) => Err(e.into()),
    }
}

/// What an open file is.
pub fn stat(fd: impl AsFd) -> io::Result<FileStat> {
    Ok(nix::sys::stat::fstatat(fd, "", AtFlags::AT_EMPTY_PATH)?)
}

/// True for a directory.
pub fn is_directory(fd: impl AsFd) -> io::Result<bool> {
    Ok(stat(fd)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root(dir: &Path) -> Rootfs {
        Rootfs::new(std::fs::File::open(dir).unwrap().into())
    }

    #[test]
    fn links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let rootfs = root(dir.path());
        symlink(outside.path(), dir.path().join("absolute")).unwrap();
        symlink("../../../../../../..", dir.path().join("up")).unwrap();
        symlink("/run", dir.path().join("dangling")).unwrap();
        rootfs.make("/absolute/a/b", Missing::Directory).unwrap();
        rootfs.make("/up/c", Missing::File).unwrap();
        rootfs.make("/dangling/secrets", Missing::Directory).unwrap();
        assert!(std::fs::read_dir(outside.path()).unwrap().next().is_none());
        assert!(dir.path().join("c").is_file());
        assert!(dir.path().join("run/secrets").is_dir());
        let inside = dir.path().join(outside.path().strip_prefix("/").unwrap());
        assert!(inside.join("a/b").is_dir());
        assert!(rootfs.find("/dangling/secrets").unwrap().is_some());
        assert!(rootfs.find("/etc/passwd").unwrap().is_none());
        assert!(rootfs.find("/c/no/directory").unwrap().is_none());
    }

    #[test]
    fn link_cycles_end() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert_eq!(root(dir.path()).make("/a", Missing::File).unwrap_err().errno(), Some(libc::ELOOP));
    }
}
