//! Taking down what a pod has on the node: mounts first, then files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};

use crate::pod::PodUid;

/// The folder of a pod: `pods/<uid>`.
pub fn pod_dir(root_dir: &Path, uid: &PodUid) -> PathBuf {
    root_dir.join("pods").join(uid.as_str())
}

/// Unmounts everything below the pod's folder, innermost first, and removes the folder. Nothing is removed while a mount
/// is left: what lies behind it is not the pod's.
pub fn tear_down(root_dir: &Path, uid: &PodUid) -> io::Result<()> {
    let folder = pod_dir(root_dir, uid);
    if !folder.exists() {
        return Ok(());
    }
    for target in mounts_below(&folder)?.iter().rev() {
        // Detached, so that a process that still stands in it does not keep the pod from ending.
        unmount(target.as_path(), UnmountFlags::DETACH)?;
    }
    let left = mounts_below(&folder)?;
    if let Some(first) = left.first() {
        return Err(io::Error::other(format!("{} is still mounted", first.display())));
    }
    fs::remove_dir_all(&folder)
}

fn mounts_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = fs::canonicalize(folder)?;
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mount_points(&table).filter(|target| target.starts_with(&folder) && *target != folder).collect())
}

fn mount_points(table: &str) -> impl Iterator<Item = PathBuf> + '_ {
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(|field| PathBuf::from(unescape(field)))
}

/// `\040` and the like as characters.
fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let bytes = field.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        let code =
            octal.and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        match code {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_table() {
        let table = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n37 35 0:5 / /a\\040b rw - tmpfs tmpfs rw\n";
        let points: Vec<_> = mount_points(table).collect();
        assert_eq!(points, [PathBuf::from("/mnt2"), PathBuf::from("/a b")]);
    }

    #[test]
    fn a_folder_without_mounts_goes() {
        let root = tempfile::tempdir().unwrap();
        let uid = PodUid::from("u");
        let folder = pod_dir(root.path(), &uid);
        fs::create_dir_all(folder.join("volumes/x")).unwrap();
        tear_down(root.path(), &uid).unwrap();
        assert!(!folder.exists());
        tear_down(root.path(), &uid).unwrap();
    }
}
