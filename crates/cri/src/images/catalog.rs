//! Which images there are: one file, replaced atomically, and its copy in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::manifest::RunConfig;
use super::reference::Reference;
use crate::disk;
use crate::error::{Error, Result};

/// The shortest abbreviation of an image id that is accepted.
const MIN_ID_PREFIX: usize = 6;

/// What is kept of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The digest of its configuration: its id.
    pub id: Digest,
    /// `registry/repository:tag`.
    pub tags: BTreeSet<String>,
    /// `registry/repository@digest`.
    pub digests: BTreeSet<String>,
    /// Compressed layers, manifest and configuration together, in bytes.
    pub size: u64,
    /// Its layers as they are unpacked, from the lowest up.
    pub chain: Vec<Digest>,
    /// Manifests and configuration: the blobs that are kept for it.
    pub blobs: BTreeSet<Digest>,
    /// How to run it.
    pub run: RunConfig,
    /// When it came, in nanoseconds since 1970.
    pub created_at_ns: i64,
    /// Not to be removed by garbage collection.
    #[serde(default)]
    pub pinned: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    images: BTreeMap<Digest, ImageRecord>,
}

/// The images of a node.
pub struct Catalog {
    path: PathBuf,
    images: RwLock<BTreeMap<Digest, ImageRecord>>,
}

impl Catalog {
    /// Reads the catalog at `path`.
    pub fn open(path: PathBuf) -> Result<Self> {
        let file: File = disk::read_json(&path)?.unwrap_or_default();
        Ok(Self { path, images: RwLock::new(file.images) })
    }

    /// All images.
    pub fn list(&self) -> Vec<ImageRecord> {
        self.images.read().values().cloned().collect()
    }

    /// The image called `name`: an id, whole or abbreviated, with or without `sha256:`, or a reference.
    pub fn find(&self, name: &str) -> Option<ImageRecord> {
        let images = self.images.read();
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if hex.len() >= MIN_ID_PREFIX && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            let mut matching = images.values().filter(|image| image.id.hex().starts_with(hex));
            if let (Some(image), None) = (matching.next(), matching.next()) {
                return Some(image.clone());
            }
        }
        let reference = Reference::parse(name).ok()?;
        let wanted = match &reference.digest {
            Some(digest) => reference.with_digest(digest),
            None => reference.tagged()?,
        };
        images.values().find(|i| i.tags.contains(&wanted) || i.digests.contains(&wanted)).cloned()
    }

    /// Adds an image, or names to it; a tag moves from the image that had it.
    pub fn add(&self, mut image: ImageRecord) -> Result<()> {
        self.change(|images| {
            for other in images.values_mut().filter(|other| other.id != image.id) {
                other.tags.retain(|tag| !image.tags.contains(tag));
            }
            if let Some(known) = images.get(&image.id) {
                image.tags.extend(known.tags.iter().cloned());
                image.digests.extend(known.digests.iter().cloned());
                image.blobs.extend(known.blobs.iter().cloned());
                image.created_at_ns = known.created_at_ns;
                image.pinned |= known.pinned;
            }
            images.insert(image.id.clone(), image);
        })
    }

    /// Forgets an image with all its names.
    pub fn remove(&self, id: &Digest) -> Result<()> {
        self.change(|images| {
            images.remove(id);
        })
    }

    /// Blobs and layers that images need.
    pub fn referenced(&self) -> (BTreeSet<Digest>, BTreeSet<Digest>) {
        let images = self.images.read();
        let blobs = images.values().flat_map(|i| i.blobs.iter().cloned()).collect();
        let layers = images.values().flat_map(|i| i.chain.iter().cloned()).collect();
        (blobs, layers)
    }

    /// Changes a copy, writes it, and only then shows it.
    fn change(&self, edit: impl FnOnce(&mut BTreeMap<Digest, ImageRecord>)) -> Result<()> {
        let mut images = self.images.write();
        let mut file = File { images: images.clone() };
        edit(&mut file.images);
        disk::write_json(&self.path, &file)?;
        *images = file.images;
        Ok(())
    }
}

impl ImageRecord {
    /// How a container's status names the image: by digest if a registry gave it one.
    pub fn image_ref(&self) -> String {
        self.digests.first().cloned().unwrap_or_else(|| self.id.to_string())
    }

    /// Something to call it by in messages.
    pub fn display_name(&self) -> String {
        self.tags.first().cloned().unwrap_or_else(|| self.image_ref())
    }
}

/// The error for an image that is not there, in containerd's words.
pub fn not_found(name: &str) -> Error {
    Error::NotFound(format!("image {name:?}"))
}

/// The catalog's place in a state directory.
pub fn catalog_path(root: &Path) -> PathBuf {
    root.join("images.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(content: &[u8], tag: &str) -> ImageRecord {
        let id = Digest::of(content);
        ImageRecord {
            tags: BTreeSet::from([tag.to_owned()]),
            digests: BTreeSet::from([format!("r.example/a@{}", Digest::of(b"manifest"))]),
            size: 1,
            chain: Vec::new(),
            blobs: BTreeSet::new(),
            run: RunConfig::default(),
            created_at_ns: 1,
            pinned: false,
            id,
        }
    }

    #[test]
    fn images_are_found_by_every_name_and_tags_move() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(catalog_path(dir.path())).unwrap();
        let (one, two) =
            (image(b"1", "docker.io/library/a:latest"), image(b"2", "docker.io/library/a:latest"));
        catalog.add(one.clone()).unwrap();
        let whole = one.id.to_string();
        let by_digest = one.image_ref();
        for name in
            ["a", "library/a:latest", whole.as_str(), one.id.hex(), &one.id.hex()[..12], by_digest.as_str()]
        {
            assert_eq!(catalog.find(name).map(|i| i.id), Some(one.id.clone()), "{name}");
        }
        assert!(catalog.find("a:other").is_none());
        catalog.add(two.clone()).unwrap();
        assert_eq!(catalog.find("a").unwrap().id, two.id);
        assert!(catalog.find(&whole).unwrap().tags.is_empty());
        let reopened = Catalog::open(catalog_path(dir.path())).unwrap();
        assert_eq!(reopened.list().len(), 2);
        reopened.remove(&one.id).unwrap();
        assert!(reopened.find(&whole).is_none());
    }
}
