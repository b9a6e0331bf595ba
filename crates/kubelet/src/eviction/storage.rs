//! Local storage: limits of `emptyDir` volumes, and images to remove when the disk is full.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use base::Quantity;

use super::{evict, is_active};
use crate::gc::used_images;
use crate::images::ImageGc;
use crate::pod::{PodView, Registry, spec};
use crate::shared::Shared;
use crate::volumes::pod_dir;

/// Evicts pods whose `emptyDir` volumes have outgrown their limits.
pub async fn evict_over_limits(shared: &Shared, registry: &Registry) {
    for view in registry.list().iter().filter(|view| is_active(view)) {
        if let Some(message) = over_limit(shared, view).await {
            evict(shared, registry, &view.pod, message);
        }
    }
}

async fn over_limit(shared: &Shared, view: &PodView) -> Option<String> {
    for volume in spec::spec(&view.pod).volumes.iter().flatten() {
        let Some(source) = &volume.empty_dir else { continue };
        let Some(limit) = source.size_limit.as_ref().and_then(|q| Quantity::parse(&q.0).ok()) else {
            continue;
        };
        if limit.is_zero() {
            continue;
        }
        let folder = pod_dir(&shared.config.root_dir, &spec::uid(&view.pod))
            .join("volumes/kubernetes.io~empty-dir")
            .join(&volume.name);
        let used = tokio::task::spawn_blocking(move || bytes_below(&folder)).await.unwrap_or(0);
        if used as i128 > i128::from(limit.value()) {
            return Some(format!(
                "Usage of EmptyDir volume {:?} exceeds the limit \"{limit}\". ",
                volume.name
            ));
        }
    }
    None
}

/// Bytes on disk of all files below `folder`; links are not followed.
fn bytes_below(folder: &Path) -> u64 {
    const SECTOR: u64 = 512;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => meta.blocks() * SECTOR + bytes_below(&entry.path()),
        Ok(meta) => meta.blocks() * SECTOR,
        Err(_) => 0,
    });
    sizes.sum()
}

/// Removes every unused image. True if that freed anything.
pub async fn free_images(shared: &Shared, registry: &Registry) -> bool {
    let mut config = (*shared.config).clone();
    config.image_gc_high_threshold_percent = 0;
    config.image_gc_low_threshold_percent = 0;
    config.image_minimum_gc_age = std::time::Duration::ZERO;
    let used = used_images(registry);
    matches!(ImageGc::default().collect(&shared.cri, &config, &used, shared.clock.now()).await, Ok(freed) if freed > 0)
}
