//! Parts of volumes (`subPath`), opened so that no link leads out of the volume (upstream `SafeOpen`).
//!
//! A path below a volume is the container's to change at any time. So it is opened beneath the volume by the kernel, and
//! the opened file itself is mounted to a place of the kubelet's, which the runtime then uses.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2};
use rustix::mount::mount_bind_recursive;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// Mounts `sub_path` of the volume at `volume` to `target`, making a folder of it first if it is not there and the
/// volume may be written to. Gives `target`.
pub fn mount(volume: &Path, sub_path: &str, target: &Path, may_create: bool) -> io::Result<PathBuf> {
    check(sub_path)?;
    let root = open_root(volume)?;
    let opened = match open(&root, Path::new(sub_path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => {
            create(&root, volume, sub_path)?
        }
        other => other?,
    };
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let meta = fs::metadata(&source)?;
    if already_mounted(target, &meta) {
        return Ok(target.to_owned());
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if meta.is_dir() {
        fs::create_dir_all(target)?;
    } else {
        fs::OpenOptions::new().create(true).append(true).open(target)?;
    }
    mount_bind_recursive(&source, target)?;
    Ok(target.to_owned())
}

fn check(sub_path: &str) -> io::Result<()> {
    let plain =
        Path::new(sub_path).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    match plain {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("subPath {sub_path:?} leads out of the volume"),
        )),
    }
}

/// A file volume (a hostPath of one file) has no parts; a folder is opened.
fn open_root(volume: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
    Ok(rustix::fs::open(volume, flags, Mode::empty())?)
}

fn open(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    Ok(openat2(root.as_fd(), path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), BENEATH)?)
}

fn create(root: &OwnedFd, volume: &Path, sub_path: &str) -> io::Result<OwnedFd> {
    let mode = Mode::from_bits_truncate(fs::metadata(volume)?.permissions().mode() & 0o7777);
    let mut done = PathBuf::from(".");
    for part in Path::new(sub_path).components() {
        let parent = open(root, &done)?;
        // One name at a time in an opened folder: nothing on the way can be swapped.
        let dir = openat2(parent.as_fd(), ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), BENEATH)?;
        match mkdirat(dir.as_fd(), part.as_os_str(), Mode::from_bits_truncate(0o750)) {
            Ok(()) => {
                done.push(part);
                let made = open(root, &done)?;
                let path = format!("/proc/self/fd/{}", made.as_raw_fd());
                fs::set_permissions(path, fs::Permissions::from_mode(mode.bits()))?;
            }
            Err(rustix::io::Errno::EXIST) => done.push(part),
            Err(error) => return Err(error.into()),
        }
    }
    open(root, &done)
}

fn already_mounted(target: &Path, meta: &fs::Metadata) -> bool {
    fs::metadata(target).is_ok_and(|t| t.dev() == meta.dev() && t.ino() == meta.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_do_not_lead_out() {
        let volume = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(volume.path().join("in")).unwrap();
        symlink("in", volume.path().join("good")).unwrap();
        symlink(outside.path(), volume.path().join("bad")).unwrap();
        symlink("../..", volume.path().join("in/up")).unwrap();
        let root = open_root(volume.path()).unwrap();
        for (path, fine) in [("in", true), ("good", true), ("bad", false), ("in/up", false), ("none", false)]
        {
            assert_eq!(open(&root, Path::new(path)).is_ok(), fine, "{path}");
        }
        assert!(check("../x").is_err() && check("/x").is_err() && check("a/./b").is_ok());
        let made = create(&root, volume.path(), "new/deep").unwrap();
        drop(made);
        assert!(volume.path().join("new/deep").is_dir());
        assert!(create(&root, volume.path(), "bad/x").is_err());
        assert!(!outside.path().join("x").exists());
    }
}
