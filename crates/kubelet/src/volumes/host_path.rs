//! `hostPath` volumes: the checks that their types ask for.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// Checks, and makes if the type says so, what lies at `path`.
pub fn check(path: &Path, kind: &str) -> Result<(), String> {
    let shown = path.display();
    let meta = match fs::metadata(path) {
        Ok(meta) => Some(meta),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("{shown}: {error}")),
    };
    let file_type = meta.as_ref().map(fs::Metadata::file_type);
    let is = |test: fn(&fs::FileType) -> bool| file_type.as_ref().is_some_and(test);
    let expect = |right: bool, what: &str| match right {
        true => Ok(()),
        false => Err(format!("hostPath type check failed: {shown} is not {what}")),
    };
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if meta.is_none() => make(path, |p| fs::create_dir_all(p), 0o755),
        "DirectoryOrCreate" | "Directory" => expect(is(fs::FileType::is_dir), "a directory"),
        "FileOrCreate" if meta.is_none() => make(path, |p| fs::File::create(p).map(drop), 0o644),
        "FileOrCreate" | "File" => expect(is(fs::FileType::is_file), "a file"),
        "Socket" => expect(is(fs::FileType::is_socket), "a socket file"),
        "CharDevice" => expect(is(fs::FileType::is_char_device), "a character device"),
        "BlockDevice" => expect(is(fs::FileType::is_block_device), "a block device"),
        other => Err(format!("unknown hostPath type {other:?}")),
    }
}

fn make(path: &Path, make: impl Fn(&Path) -> io::Result<()>, mode: u32) -> Result<(), String> {
    make(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let made = folder.path().join("made");
        assert!(check(&file, "File").is_err());
        assert_eq!(check(&file, "FileOrCreate"), Ok(()));
        assert_eq!(check(&file, "File"), Ok(()));
        assert!(check(&file, "Directory").unwrap_err().ends_with("is not a directory"));
        assert_eq!(check(&made, "DirectoryOrCreate"), Ok(()));
        assert_eq!(check(&made, "Directory"), Ok(()));
        assert_eq!(check(&folder.path().join("none"), ""), Ok(()));
        assert!(check(&file, "Socket").is_err() && check(&file, "CharDevice").is_err());
    }
}
