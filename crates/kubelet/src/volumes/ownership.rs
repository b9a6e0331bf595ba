//! The group of a pod's volumes (`securityContext.fsGroup`; upstream `SetVolumeOwnership`).

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

const READ_WRITE: u32 = 0o660;
const READ_ONLY: u32 = 0o440;
const SEARCH: u32 = 0o110;
const SET_GID: u32 = 0o2000;

/// Gives everything below and at `path` to the group and lets it in: to read, and to write unless `read_only`. With
/// `root_decides` (`fsGroupChangePolicy: OnRootMismatch`) nothing is touched when `path` itself is right already.
pub fn give_to_group(path: &Path, gid: u32, read_only: bool, root_decides: bool) -> io::Result<()> {
    if root_decides && is_right(path, gid, read_only)? {
        return Ok(());
    }
    // The root last: an interrupted run is then seen as unfinished.
    walk(path, &|entry| give_one(entry, gid, read_only))
}

fn mask(read_only: bool) -> u32 {
    if read_only { READ_ONLY } else { READ_WRITE }
}

fn is_right(path: &Path, gid: u32, read_only: bool) -> io::Result<bool> {
    let meta = fs::metadata(path)?;
    let needed = mask(read_only) | SEARCH | SET_GID;
    Ok(meta.gid() == gid && meta.mode() & needed == needed)
}

fn walk(path: &Path, apply: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), apply)?;
        }
    }
    apply(path)
}

fn give_one(path: &Path, gid: u32, read_only: bool) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    lchown(path, None, Some(gid))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let more = mask(read_only) | if meta.is_dir() { SEARCH | SET_GID } else { 0 };
    fs::set_permissions(path, fs::Permissions::from_mode(meta.mode() | more))
}
