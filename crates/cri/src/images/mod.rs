//! The images of a node: pulled from registries or imported, unpacked, listed and removed.

mod archive;
pub mod catalog;
pub mod content;
mod decompress;
pub mod digest;
mod import;
mod lease;
pub mod manifest;
mod pull;
pub mod reference;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{self, blocking};
use crate::error::{Error, Result};
use crate::locks::KeyedLocks;
use crate::registry::{RegistryClient, RegistryConfig};
use crate::snapshots::{Snapshots, Usage};
use catalog::{Catalog, ImageRecord};
use content::ContentStore;
use digest::Digest;
use lease::Leases;
use manifest::Platform;

/// How many layers are downloaded at the same time, over all pulls (containerd's default per pull).
const MAX_PARALLEL_DOWNLOADS: usize = 3;

/// The images of a node. Cheap to clone.
#[derive(Clone)]
pub struct Images(Arc<Inner>);

struct Inner {
    root: PathBuf,
    content: ContentStore,
    catalog: Catalog,
    snapshots: Arc<Snapshots>,
    registry: RegistryClient,
    platform: Platform,
    leases: Leases,
    /// One download per blob at a time.
    blob_locks: KeyedLocks<Digest>,
    download_slots: tokio::sync::Semaphore,
    /// Unpacking is one at a time: images share layers.
    unpacking: tokio::sync::Mutex<()>,
    /// Which container uses which image; also taken while an image is removed.
    users: Mutex<BTreeMap<String, Digest>>,
}

impl Images {
    /// Opens the images in `root`. Blocks.
    pub fn open(root: &Path, snapshots: Arc<Snapshots>, registry: RegistryConfig) -> Result<Self> {
        disk::make_private_dir(root)?;
        let images = Self(Arc::new(Inner {
            content: ContentStore::open(&root.join("content"))?,
            catalog: Catalog::open(catalog::catalog_path(root))?,
            registry: RegistryClient::new(registry)?,
            snapshots,
            platform: Platform::host(),
            leases: Leases::default(),
            blob_locks: KeyedLocks::default(),
            download_slots: tokio::sync::Semaphore::new(MAX_PARALLEL_DOWNLOADS),
            unpacking: tokio::sync::Mutex::new(()),
            users: Mutex::new(BTreeMap::new()),
            root: root.to_owned(),
        }));
        images.0.content.remove_stale_partial()?;
        images.0.collect_garbage()?;
        Ok(images)
    }

    /// All images.
    pub fn list(&self) -> Vec<ImageRecord> {
        self.0.catalog.list()
    }

    /// The image called `name`, by id or reference.
    pub fn find(&self, name: &str) -> Option<ImageRecord> {
        self.0.catalog.find(name)
    }

    /// The configuration file of an image, as its author wrote it.
    pub fn config_json(&self, id: &Digest) -> Result<Vec<u8>> {
        self.0.content.read(id)
    }

    /// Takes an image into use by a container: it cannot be removed until [`Images::release`].
    pub fn acquire(&self, name: &str, container_id: &str) -> Result<ImageRecord> {
        let mut users = self.0.users.lock();
        let image = self.0.catalog.find(name).ok_or_else(|| catalog::not_found(name))?;
        users.insert(container_id.to_owned(), image.id.clone());
        Ok(image)
    }

    /// Notes that a container found at start uses an image.
    pub fn reacquire(&self, image: Digest, container_id: &str) {
        self.0.users.lock().insert(container_id.to_owned(), image);
    }

    /// Ends a container's use of its image.
    pub fn release(&self, container_id: &str) {
        self.0.users.lock().remove(container_id);
    }

    /// Ends the use of images by everything whose name begins with `prefix`.
    pub fn release_matching(&self, prefix: &str) {
        self.0.users.lock().retain(|user, _| !user.starts_with(prefix));
    }

    /// Removes an image with all its names; not an error if there is none. Refused while a container uses it.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let Some(image) = self.find(name) else { return Ok(()) };
        let inner = self.0.clone();
        blocking(move || {
            {
                let users = inner.users.lock();
                if let Some((container, _)) = users.iter().find(|(_, used)| **used == image.id) {
                    return Err(Error::FailedPrecondition(format!(
                        "image {:?} is in use by container {container}",
                        image.display_name()
                    )));
                }
                inner.catalog.remove(&image.id)?;
            }
            inner.collect_garbage()
        })
        .await
    }

    /// What images take on the disk: blobs and layers.
    pub async fn usage(&self) -> Result<(PathBuf, Usage)> {
        let inner = self.0.clone();
        blocking(move || {
            let blobs = inner
                .content
                .list()?
                .iter()
                .fold(Usage::default(), |sum, (_, size)| sum + Usage { bytes: *size, inodes: 1 });
            Ok((inner.root.clone(), blobs + inner.snapshots.layers_usage()))
        })
        .await
    }
}

impl Inner {
    /// Removes blobs and layers that no image and no running pull needs. Blocks.
    fn collect_garbage(&self) -> Result<()> {
        self.collect_blobs()?;
        let (_, mut layers) = self.catalog.referenced();
        layers.extend(self.leases.digests());
        self.snapshots.remove_unneeded(&layers)
    }

    fn collect_blobs(&self) -> Result<()> {
        let (mut needed, _) = self.catalog.referenced();
        needed.extend(self.leases.digests());
        for (digest, _) in self.content.list()? {
            if !needed.contains(&digest) {
                self.content.remove(&digest)?;
            }
        }
        Ok(())
    }
}
