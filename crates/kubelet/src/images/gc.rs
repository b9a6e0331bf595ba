//! Removal of unused images when the disk fills (upstream `imageGCManager`).

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use proto::cri::v1::{Image, ImageFsInfoRequest, ImageSpec, ListImagesRequest, RemoveImageRequest};

use crate::config::Config;
use crate::cri::Cri;
use crate::node::disk;

/// References of images that containers use, as the runtime identifies them.
pub type UsedImages = HashSet<String>;

/// Knows since when images are unused.
#[derive(Debug, Default)]
pub struct ImageGc {
    last_used: HashMap<String, SystemTime>,
}

impl ImageGc {
    /// Removes unused images, the longest unused first, if the disk is fuller than the threshold, down to the lower
    /// one. Gives the bytes freed. The error says what stayed too full.
    pub async fn collect(
        &mut self,
        cri: &Cri,
        config: &Config,
        used: &UsedImages,
        now: SystemTime,
    ) -> Result<u64, String> {
        let images = cri.list_images(ListImagesRequest::default()).await.map_err(|e| e.to_string())?.images;
        self.note(&images, used, now);
        let info = cri.image_fs_info(ImageFsInfoRequest {}).await.map_err(|e| e.to_string())?;
        let Some(mountpoint) =
            info.image_filesystems.first().and_then(|f| f.fs_id.as_ref()).map(|id| id.mountpoint.clone())
        else {
            return Err("the runtime names no image filesystem".to_owned());
        };
        let usage = disk::usage(mountpoint.as_ref()).map_err(|e| format!("{mountpoint}: {e}"))?;
        let wanted = excess(
            usage,
            config.image_gc_high_threshold_percent.into(),
            config.image_gc_low_threshold_percent.into(),
        );
        if wanted == 0 {
            return Ok(0);
        }
        let freed = self.remove(cri, images, used, wanted, config.image_minimum_gc_age, now).await;
        if freed < wanted {
            return Err(format!(
                "failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} bytes eligible to free."
            ));
        }
        Ok(freed)
    }

    fn note(&mut self, images: &[Image], used: &UsedImages, now: SystemTime) {
        self.last_used.retain(|id, _| images.iter().any(|i| i.id == *id));
        for image in images {
            let since = self.last_used.entry(image.id.clone()).or_insert(now);
            if is_used(image, used) {
                *since = now;
            }
        }
    }

    async fn remove(
        &mut self,
        cri: &Cri,
        images: Vec<Image>,
        used: &UsedImages,
        wanted: u64,
        minimum_age: Duration,
        now: SystemTime,
    ) -> u64 {
        let mut candidates: Vec<(SystemTime, Image)> = images
            .into_iter()
            .filter(|image| !image.pinned && !is_used(image, used))
            .filter_map(|image| Some((*self.last_used.get(&image.id)?, image)))
            .filter(|(since, _)| now.duration_since(*since).unwrap_or_default() >= minimum_age)
            .collect();
        candidates.sort_by_key(|(since, _)| *since);
        let mut freed = 0;
        for (_, image) in candidates {
            if freed >= wanted {
                break;
            }
            let spec = ImageSpec { image: image.id.clone(), ..Default::default() };
            match cri.remove_image(RemoveImageRequest { image: Some(spec) }).await {
                Ok(_) => {
                    tracing::info!(image = image.id, bytes = image.size, "removed an unused image");
                    self.last_used.remove(&image.id);
                    freed += image.size;
                }
                Err(error) => tracing::warn!(image = image.id, %error, "cannot remove an image"),
            }
        }
        freed
    }
}

fn is_used(image: &Image, used: &UsedImages) -> bool {
    used.contains(&image.id)
        || image.repo_digests.iter().chain(&image.repo_tags).any(|name| used.contains(name))
}

/// Bytes to free so that the disk is no fuller than `low` percent, if it is fuller than `high` percent.
fn excess(usage: disk::Usage, high: u64, low: u64) -> u64 {
    let used = usage.capacity.saturating_sub(usage.available);
    let percent = |p: u64| (u128::from(usage.capacity) * u128::from(p) / 100) as u64;
    if usage.capacity == 0 || used < percent(high) { 0 } else { used.saturating_sub(percent(low)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much() {
        let usage =
            |used: u64| disk::Usage { capacity: 1000, available: 1000 - used, ..disk::Usage::default() };
        assert_eq!(excess(usage(840), 85, 80), 0);
        assert_eq!(excess(usage(850), 85, 80), 50);
        assert_eq!(excess(usage(1000), 85, 80), 200);
        assert_eq!(excess(disk::Usage::default(), 85, 80), 0);
    }
}
