//! `emptyDir` volumes, on disk and in memory, and the memory file systems that secrets are kept in.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use base::Quantity;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use rustix::mount::{MountFlags, mount};

use crate::pod::resources;

/// Makes the volume's folder at `path`, in memory if it asks for that. `node_memory` is what pods can have, in bytes.
pub fn set_up(path: &Path, source: &EmptyDirVolumeSource, pod: &Pod, node_memory: i64) -> Result<(), String> {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let medium = source.medium.as_deref().unwrap_or_default();
    let fresh = !path.exists();
    fs::create_dir_all(path).map_err(named)?;
    match medium {
        // Later the folder is the pod's: its group and mode may have been changed.
        "" if !fresh => Ok(()),
        "" => fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(named),
        "Memory" => {
            let limit =
                source.size_limit.as_ref().and_then(|q| Quantity::parse(&q.0).ok()).map(|q| q.value());
            memory(path, 0o777, memory_size(pod, limit, node_memory)).map_err(named)
        }
        other => Err(format!("emptyDir medium {other:?} is not supported by this kubelet")),
    }
}

/// The least of the volume's limit, the pod's memory limit and the node's memory.
fn memory_size(pod: &Pod, limit: Option<i64>, node_memory: i64) -> i64 {
    let pod_limit = resources::is_limited(pod, "memory")
        .then(|| resources::pod_limits(pod).get("memory").map(|q| q.value()))
        .flatten();
    let all = [limit, pod_limit, Some(node_memory)];
    all.into_iter().flatten().filter(|bytes| *bytes > 0).min().unwrap_or(0)
}

/// Mounts a memory file system at `path` unless one is there. `size` in bytes, 0 for the kernel's default.
pub fn memory(path: &Path, mode: u32, size: i64) -> io::Result<()> {
    if is_mount_point(path)? {
        return Ok(());
    }
    let size = if size > 0 { format!(",size={size}") } else { String::new() };
    let data = std::ffi::CString::new(format!("mode={mode:o}{size}"))?;
    mount("tmpfs", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, data.as_c_str())?;
    Ok(())
}

/// True if another file system begins at `path`.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let own = fs::metadata(path)?;
    let above = fs::metadata(path.parent().unwrap_or(Path::new("/")))?;
    Ok(own.dev() != above.dev())
}
