//! Files that change all at once (upstream `AtomicWriter`): readers see the old content or the new, never a mix.
//!
//! The files lie in a folder named by time; `..data` is a link to it, and each visible name is a link through `..data`.
//! Renaming a new `..data` over the old one is the moment of change.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path};

use k8s_openapi::jiff::Timestamp;

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its content.
    pub data: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// Its owner, if not root.
    pub uid: Option<u32>,
}

/// Files by path relative to the volume.
pub type Payload = BTreeMap<String, FileEntry>;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes `folder` hold exactly `payload`. True if anything changed. `prepare` is called with the folder of the new files
/// before they are seen, to set their group.
pub fn write(
    folder: &Path,
    payload: &Payload,
    prepare: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<bool> {
    for path in payload.keys() {
        check_path(path)?;
    }
    let data = folder.join(DATA);
    let old = fs::read_link(&data).ok();
    if let Some(old) = &old
        && holds(&folder.join(old), payload)?
    {
        link_names(folder, payload)?;
        return Ok(false);
    }
    let stamp = Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let name = format!("{stamp}.{}", fastrand::u64(..));
    let target = folder.join(&name);
    fs::create_dir(&target)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755))?;
    for (path, entry) in payload {
        write_file(&target.join(path), entry)?;
    }
    prepare(&target)?;
    let new_data = folder.join(NEW_DATA);
    remove_if_there(&new_data)?;
    symlink(&name, &new_data)?;
    fs::rename(&new_data, &data)?;
    link_names(folder, payload)?;
    if let Some(old) = old {
        fs::remove_dir_all(folder.join(old))?;
    }
    Ok(true)
}

fn check_path(path: &str) -> io::Result<()> {
    let parsed = Path::new(path);
    let plain = parsed.components().all(|c| matches!(c, Component::Normal(_)));
    if path.is_empty() || !plain || path.starts_with("..") {
        let text = format!("invalid path {path:?}: must be relative, without \"..\"");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

fn write_file(path: &Path, entry: &FileEntry) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, &entry.data)?;
    // Not by the mode of creation, which the umask cuts.
    fs::set_permissions(path, fs::Permissions::from_mode(entry.mode))?;
    if let Some(uid) = entry.uid {
        chown(path, Some(uid), None)?;
    }
    Ok(())
}

/// True if the folder holds the payload's files with their content, and no others.
fn holds(folder: &Path, payload: &Payload) -> io::Result<bool> {
    for (path, entry) in payload {
        match fs::read(folder.join(path)) {
            Ok(data) if data == entry.data => {}
            _ => return Ok(false),
        }
    }
    Ok(count_files(folder)? == payload.len())
}

fn count_files(folder: &Path) -> io::Result<usize> {
    let mut count = 0;
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

/// Links for the first parts of the paths, and no others.
fn link_names(folder: &Path, payload: &Payload) -> io::Result<()> {
    let first = |path: &str| path.split('/').next().unwrap_or(path).to_owned();
    let mut wanted: Vec<String> = payload.keys().map(|path| first(path)).collect();
    wanted.dedup();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = !name.starts_with("..") && entry.file_type()?.is_symlink();
        if ours && !wanted.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    for name in wanted {
        let link = folder.join(&name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(&name), link)?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let entry = |data: &str| FileEntry { data: data.into(), mode: 0o640, uid: None };
        files.iter().map(|(path, data)| ((*path).to_owned(), entry(data))).collect()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.filter(|n| !n.starts_with("..2")).collect();
        names.sort();
        names
    }

    #[test]
    fn content_follows_the_payload() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let write = |files: &[(&str, &str)]| super::write(folder, &payload(files), |_| Ok(())).unwrap();
        assert!(write(&[("a", "1"), ("d/x", "2"), ("d/y", "3")]));
        assert_eq!(names(folder), ["..data", "a", "d"]);
        assert_eq!(fs::read_to_string(folder.join("d/y")).unwrap(), "3");
        assert_eq!(fs::metadata(folder.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        let before = fs::read_link(folder.join("..data")).unwrap();
        assert!(!write(&[("a", "1"), ("d/x", "2"), ("d/y", "3")]));
        assert_eq!(fs::read_link(folder.join("..data")).unwrap(), before);
        assert!(write(&[("a", "1"), ("b", "4")]));
        assert_eq!(names(folder), ["..data", "a", "b"]);
        assert!(!folder.join(before).exists());
        assert!(write(&[]));
        assert_eq!(names(folder), ["..data"]);
    }

    #[test]
    fn paths_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["/a", "../a", "a/../b", "", "..a"] {
            assert!(super::write(folder.path(), &payload(&[(path, "")]), |_| Ok(())).is_err(), "{path}");
        }
    }
}
