//! Rotation of a container's log (`containerLogMaxSize`, `containerLogMaxFiles`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;

/// What one look at a log led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// It is small enough.
    NotNeeded,
    /// It was renamed: the runtime has to open a new one. If that fails, [`Rotation::undo`] puts it back.
    Renamed {
        /// The log.
        path: PathBuf,
        /// Its new name.
        rotated: PathBuf,
    },
}

impl Rotation {
    /// Renames the log back.
    pub fn undo(&self) -> io::Result<()> {
        match self {
            Rotation::Renamed { path, rotated } if !path.exists() => fs::rename(rotated, path),
            _ => Ok(()),
        }
    }
}

/// Renames the log at `path` if it is larger than `max_size` bytes, and removes the oldest ones so that `max_files`
/// files remain, the current one included.
pub fn rotate_if_large(path: &Path, max_size: u64, max_files: u32, now: Timestamp) -> io::Result<Rotation> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > max_size => {}
        Ok(_) => return Ok(Rotation::NotNeeded),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Rotation::NotNeeded),
        Err(error) => return Err(error),
    }
    // One is about to be added, and the new current one counts.
    let keep = (max_files.max(2) - 2) as usize;
    let old = rotated_files(path)?;
    for oldest in &old[..old.len().saturating_sub(keep)] {
        fs::remove_file(oldest)?;
    }
    let suffix = now.strftime("%Y%m%d-%H%M%S");
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    let rotated = PathBuf::from(name);
    fs::rename(path, &rotated)?;
    Ok(Rotation::Renamed { path: path.to_owned(), rotated })
}

/// Rotated files of the log at `path`, oldest first: their names sort by time.
fn rotated_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let prefix = format!("{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix)))
        .collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        for hour in 1..6 {
            fs::write(&path, "0123456789").unwrap();
            let now = format!("2024-01-01T0{hour}:00:00Z").parse().unwrap();
            assert_eq!(rotate_if_large(&path, 10, 3, now).unwrap(), Rotation::NotNeeded);
            assert!(matches!(rotate_if_large(&path, 9, 3, now).unwrap(), Rotation::Renamed { .. }));
        }
        let names: Vec<_> =
            rotated_files(&path).unwrap().iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["0.log.20240101-040000", "0.log.20240101-050000"]);
    }
}
