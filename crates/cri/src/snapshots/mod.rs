//! Unpacked layers, shared by images, and the writable file systems of containers on top of them (overlayfs).

mod mount;
mod tree;
mod unpack;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

pub use mount::{OverlayMount, is_mounted, unmount, unmount_below};
pub use tree::clean as clean_path;
pub use usage::Usage;

use crate::disk;
use crate::error::{Error, Result};
use crate::images::digest::Digest;

/// Directory of the layers: `layers/<number>/fs`, short since their paths must fit into the options of one mount.
const LAYERS: &str = "layers";
/// In a layer's directory: its chain id and usage; there only once the layer is whole and on disk.
const LAYER_FILE: &str = "layer.json";
const LAYER_FS: &str = "fs";
/// Directory of the containers' writable layers.
const CONTAINERS: &str = "containers";
/// Directory of mounts that last only as long as an unpacking.
const SCRATCH: &str = "scratch";

/// The unpacked layers and writable layers of a node.
pub struct Snapshots {
    root: PathBuf,
    layers: Mutex<BTreeMap<Digest, Layer>>,
}

#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
struct LayerUsage {
    bytes: u64,
    inodes: u64,
}

#[derive(Debug, Clone)]
struct Layer {
    number: u64,
    usage: Usage,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct LayerFile {
    chain_id: Digest,
    usage: LayerUsage,
}

/// A layer to unpack: what it is called and where its uncompressed tar comes from.
pub struct LayerSource {
    /// The chain id that it will be known by.
    pub chain_id: Digest,
    /// The digest that its uncompressed tar must have.
    pub diff_id: Digest,
    /// Opens the uncompressed tar.
    pub open: Box<dyn FnOnce() -> Result<Box<dyn Read>> + Send>,
}

impl Snapshots {
    /// Opens the snapshots in `root`; what a crash left half made is removed.
    pub fn open(root: &Path) -> Result<Self> {
        unmount_below(&root.join(SCRATCH))?;
        disk::remove_tree(&root.join(SCRATCH))?;
        for dir in [LAYERS, CONTAINERS, SCRATCH] {
            disk::make_private_dir(&root.join(dir))?;
        }
        let snapshots = Self { root: root.to_owned(), layers: Mutex::new(BTreeMap::new()) };
        snapshots.load()?;
        Ok(snapshots)
    }

    fn load(&self) -> Result<()> {
        let dir = self.root.join(LAYERS);
        let mut layers = self.layers.lock();
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let path = entry.map_err(Error::io("list", &dir))?.path();
            let number = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
            match (number, disk::read_json::<LayerFile>(&path.join(LAYER_FILE))) {
                (Some(number), Ok(Some(file))) => {
                    let usage = Usage { bytes: file.usage.bytes, inodes: file.usage.inodes };
                    layers.insert(file.chain_id, Layer { number, usage });
                }
                _ => disk::remove_tree(&path)?,
            }
        }
        Ok(())
    }

    /// True if the layer is unpacked.
    pub fn has(&self, chain_id: &Digest) -> bool {
        self.layers.lock().contains_key(chain_id)
    }

    /// Unpacks layers, from the lowest up; those that are there already are taken as they are. Blocks. All of them
    /// are on disk when this returns. Callers do this one after the other.
    pub fn unpack(&self, sources: Vec<LayerSource>) -> Result<()> {
        let mut below: Vec<PathBuf> = Vec::new();
        let mut made: Vec<(Digest, Layer)> = Vec::new();
        let result = sources.into_iter().try_for_each(|source| {
            let known = self.layers.lock().get(&source.chain_id).map(|layer| layer.number);
            let number = match known {
                Some(number) => number,
                None => {
                    let chain_id = source.chain_id.clone();
                    let layer = self.unpack_one(source, &below)?;
                    let number = layer.number;
                    made.push((chain_id, layer));
                    number
                }
            };
            below.insert(0, self.layer_fs(number));
            Ok(())
        });
        let result = result.and_then(|()| self.commit(&made));
        if result.is_err() {
            for (_, layer) in &made {
                // Without its file the next start removes it anyway.
                let _ = disk::remove_tree(&self.layer_dir(layer.number));
            }
        }
        result
    }

    fn unpack_one(&self, source: LayerSource, below: &[PathBuf]) -> Result<Layer> {
        let number = self.new_layer_dir()?;
        let target = self.layer_fs(number);
        let unpacked = (source.open)().and_then(|tar| {
            let scratch = self.root.join(SCRATCH).join(number.to_string());
            unpack::unpack_layer(tar, &source.diff_id, &target, below, &scratch)
        });
        match unpacked.and_then(|()| Usage::of(&target)) {
            Ok(usage) => Ok(Layer { number, usage }),
            Err(error) => {
                let _ = disk::remove_tree(&self.layer_dir(number));
                Err(error.context(format!("failed to extract layer {}", source.diff_id)))
            }
        }
    }

    fn new_layer_dir(&self) -> Result<u64> {
        let dir = self.root.join(LAYERS);
        let used = fs::read_dir(&dir).map_err(Error::io("list", &dir))?;
        let last = used.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u64>().ok()).max();
        let number = last.map_or(1, |n| n + 1);
        disk::make_private_dir(&self.layer_dir(number))?;
        let target = self.layer_fs(number);
        fs::create_dir(&target).map_err(Error::io("make", &target))?;
        Ok(number)
    }

    /// Makes layers durable, then known: the marker file of a layer promises that its content is on disk.
    fn commit(&self, made: &[(Digest, Layer)]) -> Result<()> {
        if made.is_empty() {
            return Ok(());
        }
        mount::sync_filesystem(&self.root)?;
        for (chain_id, layer) in made {
            let usage = LayerUsage { bytes: layer.usage.bytes, inodes: layer.usage.inodes };
            let file = LayerFile { chain_id: chain_id.clone(), usage };
            disk::write_json(&self.layer_dir(layer.number).join(LAYER_FILE), &file)?;
        }
        self.layers.lock().extend(made.iter().cloned());
        Ok(())
    }

    /// Removes all layers that are not in `needed`. Blocks.
    pub fn remove_unneeded(&self, needed: &BTreeSet<Digest>) -> Result<()> {
        let gone: Vec<(Digest, Layer)> = {
            let mut layers = self.layers.lock();
            let gone = layers.iter().filter(|(id, _)| !needed.contains(*id));
            let gone: Vec<_> = gone.map(|(id, layer)| (id.clone(), layer.clone())).collect();
            layers.retain(|id, _| needed.contains(id));
            gone
        };
        for (_, layer) in gone {
            let dir = self.layer_dir(layer.number);
            let marker = dir.join(LAYER_FILE);
            fs::remove_file(&marker).map_err(Error::io("remove", &marker))?;
            disk::remove_tree(&dir)?;
        }
        Ok(())
    }

    /// Mounts a writable file system on `chain` at `target`. Blocks. Mounting again finds the same files.
    pub fn mount_container(&self, id: &str, chain: &[Digest], target: &Path) -> Result<()> {
        let dir = self.root.join(CONTAINERS).join(id);
        for part in ["upper", "work"] {
            disk::make_private_dir(&dir.join(part))?;
        }
        let upper = dir.join("upper");
        // The upper directory is the container's root directory, which everybody in it must be able to enter.
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).map_err(Error::io("chmod", &upper))?;
        OverlayMount {
            base: self.root.join(LAYERS),
            lower: self.lower(chain)?,
            upper: Some((upper, dir.join("work"))),
            target: target.to_owned(),
            volatile: false,
        }
        .mount()
    }

    /// Mounts an image read-only at `target`. Blocks.
    pub fn mount_image(&self, chain: &[Digest], target: &Path) -> Result<()> {
        OverlayMount {
            base: self.root.join(LAYERS),
            lower: self.lower(chain)?,
            upper: None,
            target: target.to_owned(),
            volatile: false,
        }
        .mount()
    }

    /// Removes a container's writable files; it must not be mounted any more. Blocks.
    pub fn remove_container(&self, id: &str) -> Result<()> {
        disk::remove_tree(&self.root.join(CONTAINERS).join(id))
    }

    /// The containers that have writable files.
    pub fn containers(&self) -> Result<Vec<String>> {
        let dir = self.root.join(CONTAINERS);
        let entries = fs::read_dir(&dir).map_err(Error::io("list", &dir))?;
        Ok(entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect())
    }

    /// How much a container has written. Blocks.
    pub fn container_usage(&self, id: &str) -> Result<Usage> {
        Usage::of(&self.root.join(CONTAINERS).join(id).join("upper"))
    }

    /// What all layers take.
    pub fn layers_usage(&self) -> Usage {
        self.layers.lock().values().fold(Usage::default(), |sum, layer| sum + layer.usage)
    }

    fn lower(&self, chain: &[Digest]) -> Result<Vec<PathBuf>> {
        let layers = self.layers.lock();
        let numbers = chain.iter().rev().map(|id| {
            let layer = layers.get(id).ok_or_else(|| Error::NotFound(format!("layer {id}")))?;
            Ok(PathBuf::from(layer.number.to_string()).join(LAYER_FS))
        });
        numbers.collect()
    }

    fn layer_dir(&self, number: u64) -> PathBuf {
        self.root.join(LAYERS).join(number.to_string())
    }

    fn layer_fs(&self, number: u64) -> PathBuf {
        self.layer_dir(number).join(LAYER_FS)
    }
}
