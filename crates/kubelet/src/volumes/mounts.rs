//! The mounts of a container: its volumes, its hosts file, the file for its last words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use proto::cri::v1::{Mount, MountPropagation};

use super::{VolumeSet, pod_dir, subpath};
use crate::container::config::bind;
use crate::container::expand::expand;
use crate::cri::labels::message_path;
use crate::pod::spec;

/// What mounts are made from.
#[derive(Debug)]
pub struct MountInputs<'a> {
    /// The kubelet's state.
    pub root_dir: &'a Path,
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// The pod's volumes.
    pub volumes: &'a VolumeSet,
    /// The container's environment, for `subPathExpr`.
    pub env: &'a [(String, String)],
    /// The pod's hosts file.
    pub hosts_file: Option<&'a Path>,
}

/// The container's mounts in order. The error is the message of `CreateContainerConfigError`.
pub fn container_mounts(inputs: &MountInputs<'_>) -> Result<Vec<Mount>, String> {
    if inputs.container.volume_devices.as_ref().is_some_and(|d| !d.is_empty()) {
        return Err("volumeDevices are not supported by this kubelet".to_owned());
    }
    let mut mounts = Vec::new();
    for (index, volume_mount) in inputs.container.volume_mounts.iter().flatten().enumerate() {
        mounts.push(volume(inputs, volume_mount, index)?);
    }
    let has = |path: &str| mounts.iter().any(|m: &Mount| m.container_path == path);
    if let Some(hosts) = inputs.hosts_file.filter(|_| !has("/etc/hosts")) {
        mounts.push(bind("/etc/hosts", hosts, false));
    }
    let words = last_words_file(inputs).map_err(|e| format!("termination message file: {e}"))?;
    mounts.push(bind(message_path(inputs.container), &words, false));
    Ok(mounts)
}

fn volume(inputs: &MountInputs<'_>, mount: &VolumeMount, index: usize) -> Result<Mount, String> {
    let Some(volume) = inputs.volumes.by_name.get(&mount.name) else {
        return Err(format!(
            "cannot find volume {:?} to mount into container {:?}",
            mount.name, inputs.container.name
        ));
    };
    let read_only = mount.read_only == Some(true) || volume.read_only;
    let mut host_path = volume.path.clone();
    if let Some(sub_path) = sub_path(inputs, mount)? {
        let target = pod_dir(inputs.root_dir, &spec::uid(inputs.pod))
            .join("volume-subpaths")
            .join(&mount.name)
            .join(&inputs.container.name)
            .join(index.to_string());
        host_path = subpath::mount(&volume.path, &sub_path, &target, !volume.read_only).map_err(|e| {
            format!(
                "failed to prepare subPath for volumeMount {:?} of container {:?}: {e}",
                mount.name, inputs.container.name
            )
        })?;
    } else if !volume.owned && !host_path.exists() {
        // As upstream: an absent hostPath of no type becomes a folder.
        fs::create_dir_all(&host_path).map_err(|e| format!("{}: {e}", host_path.display()))?;
    }
    if mount.recursive_read_only.as_deref() == Some("Enabled") {
        return Err("recursiveReadOnly: Enabled is not supported by this kubelet".to_owned());
    }
    let container_path = match mount.mount_path.starts_with('/') {
        true => mount.mount_path.clone(),
        false => format!("/{}", mount.mount_path),
    };
    let propagation = match mount.mount_propagation.as_deref() {
        None | Some("None" | "") => MountPropagation::PropagationPrivate,
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        Some(other) => return Err(format!("invalid MountPropagation mode: {other:?}")),
    };
    Ok(Mount { propagation: propagation as i32, ..bind(&container_path, &host_path, read_only) })
}

fn sub_path(inputs: &MountInputs<'_>, mount: &VolumeMount) -> Result<Option<String>, String> {
    if let Some(plain) = mount.sub_path.as_deref().filter(|p| !p.is_empty()) {
        return Ok(Some(plain.to_owned()));
    }
    let Some(expression) = mount.sub_path_expr.as_deref().filter(|p| !p.is_empty()) else { return Ok(None) };
    let lookup = |name: &str| inputs.env.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
    let expanded = expand(expression, lookup);
    match expanded.contains("$(") {
        true => Err(format!("missing value for {expression:?}")),
        false => Ok(Some(expanded)),
    }
}

/// A fresh file that the container writes its last words to: writable for any user.
fn last_words_file(inputs: &MountInputs<'_>) -> std::io::Result<PathBuf> {
    let folder =
        pod_dir(inputs.root_dir, &spec::uid(inputs.pod)).join("containers").join(&inputs.container.name);
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{:08x}", fastrand::u32(..)));
    fs::File::create(&file)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
    Ok(file)
}
