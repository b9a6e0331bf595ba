//! Which clusters there are on this machine: a note per name, so that `--name` alone finds a data directory.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::network::Block;
use crate::settings::Settings;

const FOLDER: &str = "/run/corten";

/// What is noted of a cluster while it exists on this machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// Its name.
    pub name: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Its pods' addresses.
    pub pod_block: Block,
    /// Its services' addresses.
    pub service_block: Block,
}

fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{name}.json"))
}

/// Notes the cluster of `settings` in `layout`.
pub fn note(settings: &Settings, layout: &Layout) -> anyhow::Result<()> {
    let note = Note {
        name: settings.name.clone(),
        data_dir: layout.data().to_owned(),
        pod_block: settings.pod_block,
        service_block: settings.service_block,
    };
    std::fs::create_dir_all(FOLDER)?;
    pki::write_public(&path(&settings.name), &serde_json::to_vec_pretty(&note)?)?;
    Ok(())
}

/// Forgets the cluster `name`.
pub fn forget(name: &str) {
    let _ = std::fs::remove_file(path(name));
    let _ = std::fs::remove_dir(FOLDER);
}

/// The note of `name`, if there is one.
pub fn find(name: &str) -> Option<Note> {
    serde_json::from_slice(&std::fs::read(path(name)).ok()?).ok()
}

/// All notes whose data directory still is one.
pub fn all() -> Vec<Note> {
    let Ok(entries) = std::fs::read_dir(FOLDER) else { return Vec::new() };
    let notes = entries.flatten().filter_map(|e| serde_json::from_slice(&std::fs::read(e.path()).ok()?).ok());
    notes.filter(|note: &Note| crate::settings::is_data_dir(&note.data_dir)).collect()
}
