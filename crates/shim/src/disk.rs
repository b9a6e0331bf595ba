//! The files in which a shim keeps what must not be lost.

use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::wire::{CONTAINER_FILE, CONTAINERS_DIR, ContainerState};

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}

/// Replaces a container's state file. With `durable` it is on disk when this returns; else it survives the shim, but
/// perhaps not the machine, whose end is the container's too.
pub(crate) fn write_container(dir: &Path, state: &ContainerState, durable: bool) -> io::Result<()> {
    let folder = dir.join(CONTAINERS_DIR).join(&state.container.id);
    std::fs::create_dir_all(&folder)?;
    let temporary = folder.join(".state.json.tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(state)?)?;
    if durable {
        file.sync_data()?;
    }
    std::fs::rename(&temporary, folder.join(CONTAINER_FILE))?;
    if durable { std::fs::File::open(&folder)?.sync_all() } else { Ok(()) }
}

/// Forgets a container.
pub(crate) fn remove_container(dir: &Path, id: &str) -> io::Result<()> {
    match std::fs::remove_dir_all(dir.join(CONTAINERS_DIR).join(id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
