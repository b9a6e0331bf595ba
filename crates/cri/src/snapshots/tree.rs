//! A directory tree that is written to by the paths of an archive nobody vouches for: nothing done here leaves it.

use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::UtimensatFlags;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstatat, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

/// How often a lookup that raced with a rename is tried again.
const MAX_LOOKUP_RETRIES: usize = 128;
const IMPLIED_DIR_MODE: Mode = Mode::from_bits_truncate(0o755);

/// The tree, by a descriptor of its root.
pub struct Tree {
    root: OwnedFd,
    /// The directory of the last entry; archives list a directory's files together.
    last: Option<(PathBuf, std::rc::Rc<OwnedFd>)>,
}

/// An entry's place: the open directory that it is in, and its name there.
pub struct Place {
    pub dir: std::rc::Rc<OwnedFd>,
    pub name: CString,
}

/// Owner, mode and time of an entry.
#[derive(Debug, Clone, Copy)]
pub struct Metadata {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub mtime: TimeSpec,
}

/// Takes an archive's path apart as if it were absolute: no leading slash, no `.`, and `..` stops at the root.
pub fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => out.push(part),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

impl Tree {
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(root, flags, Mode::empty())?;
        Ok(Self { root, last: None })
    }

    /// The place of a cleaned path that is not empty; directories missing above it are made.
    pub fn place(&mut self, path: &Path) -> io::Result<Place> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().ok_or_else(|| io::Error::other("the entry has no name"))?;
        let name = CString::new(name.as_bytes())?;
        if let Some((known, dir)) = &self.last
            && known == parent
        {
            return Ok(Place { dir: dir.clone(), name });
        }
        let dir = std::rc::Rc::new(self.dir_or_make(parent)?);
        self.last = Some((parent.to_owned(), dir.clone()));
        Ok(Place { dir, name })
    }

    /// The place of a path that must be there already, for the target of a hard link.
    pub fn existing_place(&self, path: &Path) -> io::Result<Place> {
        let name = path.file_name().ok_or_else(|| io::Error::other("the link's target has no name"))?;
        let dir = self.resolve_dir(path.parent().unwrap_or(Path::new("")))?;
        Ok(Place { dir: std::rc::Rc::new(dir), name: CString::new(name.as_bytes())? })
    }

    /// The root itself, for its own metadata.
    pub fn root_path(&self) -> PathBuf {
        fd_path(&self.root)
    }

    fn dir_or_make(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.resolve_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::other("the root is gone"));
        };
        let above = self.dir_or_make(parent)?;
        match mkdirat(&above, name, IMPLIED_DIR_MODE) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.resolve_dir(path)
    }

    /// Symbolic links are followed as if the tree were the whole world.
    fn resolve_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        for _ in 0..MAX_LOOKUP_RETRIES {
            match openat2(&self.root, path, how) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                other => return other.map_err(Into::into),
            }
        }
        Err(Errno::EAGAIN.into())
    }

    /// Removes whatever is there, with everything in it. Not an error if nothing is.
    pub fn remove(&mut self, place: &Place) -> io::Result<()> {
        match unlinkat(&place.dir, place.name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(Errno::EISDIR | Errno::EPERM) => {
                self.last = None;
                fs::remove_dir_all(place.path())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes from a directory what `keep` does not say to keep.
    pub fn remove_children(&mut self, dir: &OwnedFd, keep: impl Fn(&OsStr) -> bool) -> io::Result<()> {
        let dir_path = fd_path(dir);
        for entry in fs::read_dir(&dir_path)? {
            let name = entry?.file_name();
            if keep(&name) {
                continue;
            }
            let dir = std::rc::Rc::new(dir.try_clone()?);
            self.remove(&Place { dir, name: CString::new(name.as_bytes())? })?;
        }
        Ok(())
    }
}

impl Place {
    /// A path for calls that know no descriptors; it cannot be redirected, since it starts at the open directory.
    pub fn path(&self) -> PathBuf {
        fd_path(&self.dir).join(OsStr::from_bytes(self.name.as_bytes()))
    }

    /// What is there, links not followed.
    pub fn stat(&self) -> io::Result<Option<FileStat>> {
        match fstatat(&*self.dir, self.name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    pub fn make_dir(&self) -> io::Result<()> {
        Ok(mkdirat(&*self.dir, self.name.as_c_str(), IMPLIED_DIR_MODE)?)
    }

    pub fn create_file(&self) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&*self.dir, self.name.as_c_str(), flags, Mode::from_bits_truncate(0o600))?))
    }

    pub fn link_to(&self, target: &Place) -> io::Result<()> {
        let flags = LinkatFlags::empty();
        Ok(linkat(&*target.dir, target.name.as_c_str(), &*self.dir, self.name.as_c_str(), flags)?)
    }

    pub fn symlink(&self, to: &Path) -> io::Result<()> {
        Ok(symlinkat(to, &*self.dir, self.name.as_c_str())?)
    }

    pub fn make_node(&self, kind: SFlag, major: u32, minor: u32) -> io::Result<()> {
        let device = nix::sys::stat::makedev(u64::from(major), u64::from(minor));
        Ok(mknodat(&*self.dir, self.name.as_c_str(), kind, Mode::from_bits_truncate(0o600), device)?)
    }

    /// Sets owner and mode, in this order since the kernel clears set-id bits with the owner.
    pub fn set_owner_and_mode(&self, metadata: &Metadata, is_symlink: bool) -> io::Result<()> {
        let name = self.name.as_c_str();
        let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        fchownat(&*self.dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if !is_symlink {
            let mode = Mode::from_bits_truncate(metadata.mode & 0o7777);
            fchmodat(&*self.dir, name, mode, FchmodatFlags::FollowSymlink)?;
        }
        Ok(())
    }

    pub fn set_mtime(&self, mtime: TimeSpec) -> io::Result<()> {
        let flags = UtimensatFlags::NoFollowSymlink;
        Ok(utimensat(&*self.dir, self.name.as_c_str(), &mtime, &mtime, flags)?)
    }

    /// Sets an extended attribute; file systems that do not know it are forgiven.
    pub fn set_xattr(&self, name: &str, value: &[u8]) -> io::Result<()> {
        let path = CString::new(self.path().into_os_string().into_encoded_bytes())?;
        let name = CString::new(name)?;
        // SAFETY: both strings end with a zero, and the value's length is given.
        let result =
            unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        match (result, io::Error::last_os_error()) {
            (0, _) => Ok(()),
            (_, error) if error.raw_os_error() == Some(libc::ENOTSUP) => Ok(()),
            (_, error) => Err(error),
        }
    }
}

fn fd_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
