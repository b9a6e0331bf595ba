//! Images as volumes (KEP-4639).

use std::path::{Path, PathBuf};

use proto::cri::v1::Mount;

use crate::disk;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::node::Node;

const IMAGES: &str = "images";

/// Mounts those images that are volumes, each at a place of its own in the bundle; gives the paths to bind. Blocks.
pub fn mount_images(
    node: &Node,
    container_id: &str,
    bundle: &Path,
    mounts: &[Mount],
) -> Result<Vec<Option<PathBuf>>> {
    let mut paths = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.iter().enumerate() {
        let Some(wanted) = mount.image.as_ref().filter(|image| !image.image.is_empty()) else {
            paths.push(None);
            continue;
        };
        if !mount.host_path.is_empty() {
            return Err(Error::InvalidArgument("a mount has both an image and a host path".to_owned()));
        }
        let image = node.images.acquire(&wanted.image, &user_key(container_id, index))?;
        let target = bundle.join(IMAGES).join(index.to_string());
        disk::make_private_dir(&target)?;
        node.snapshots.mount_image(&image.chain, &target)?;
        paths.push(Some(sub_path(&target, &mount.image_sub_path)?));
    }
    Ok(paths)
}

/// Notes the use of images that are mounted already.
pub fn reacquire(images: &Images, container_id: &str, mounts: &[Mount]) {
    for (index, mount) in mounts.iter().enumerate() {
        if let Some(image) = mount.image.as_ref().and_then(|i| images.find(&i.image)) {
            images.reacquire(image.id, &user_key(container_id, index));
        }
    }
}

/// Ends the use of the images.
pub fn release(node: &Node, container_id: &str) {
    node.images.release_matching(&format!("{container_id}/"));
}

fn user_key(container_id: &str, index: usize) -> String {
    format!("{container_id}/{index}")
}

/// A path inside of a mounted image; links that lead out of it are refused.
fn sub_path(root: &Path, sub_path: &str) -> Result<PathBuf> {
    let root = std::fs::canonicalize(root).map_err(Error::io("resolve", root))?;
    if sub_path.is_empty() {
        return Ok(root);
    }
    let wanted = root.join(crate::snapshots::clean_path(Path::new(sub_path)));
    let found = std::fs::canonicalize(&wanted)
        .map_err(|_| Error::NotFound(format!("image sub path {sub_path:?}")))?;
    if !found.starts_with(&root) {
        return Err(Error::InvalidArgument(format!("image sub path {sub_path:?} leads out of the image")));
    }
    Ok(found)
}
