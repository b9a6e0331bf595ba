//! The mounts of a container: its volumes, its hosts file, the file for its last words.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use proto::cri::v1::{ImageSpec, Mount, MountPropagation};

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
    /// The images of the container's image volumes, as the runtime identifies them, by volume.
    pub images: &'a BTreeMap<String, String>,
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
    if let Some(reference) = inputs.images.get(&mount.name) {
        return image_volume(inputs, mount, reference);
    }
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
    let propagation = match mount.mount_propagation.as_deref() {
        None | Some("None" | "") => MountPropagation::PropagationPrivate,
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        Some(other) => return Err(format!("invalid MountPropagation mode: {other:?}")),
    };
    Ok(Mount { propagation: propagation as i32, ..bind(&container_path(mount), &host_path, read_only) })
}

/// The runtime mounts the image itself, read-only; a path in it is its matter as well.
fn image_volume(inputs: &MountInputs<'_>, mount: &VolumeMount, reference: &str) -> Result<Mount, String> {
    let named = spec::spec(inputs.pod).volumes.iter().flatten().find(|v| v.name == mount.name);
    let written = named.and_then(|v| v.image.as_ref()).and_then(|i| i.reference.clone());
    let image = ImageSpec {
        image: reference.to_owned(),
        user_specified_image: written.unwrap_or_default(),
        ..ImageSpec::default()
    };
    Ok(Mount {
        container_path: container_path(mount),
        readonly: true,
        image: Some(image),
        image_sub_path: sub_path(inputs, mount)?.unwrap_or_default(),
        ..Mount::default()
    })
}

fn container_path(mount: &VolumeMount) -> String {
    match mount.mount_path.starts_with('/') {
        true => mount.mount_path.clone(),
        false => format!("/{}", mount.mount_path),
    }
}

/// A variable that is not set, or empty, makes no path (upstream `ExpandContainerVolumeMounts`).
fn sub_path(inputs: &MountInputs<'_>, mount: &VolumeMount) -> Result<Option<String>, String> {
    if let Some(plain) = mount.sub_path.as_deref().filter(|p| !p.is_empty()) {
        return Ok(Some(plain.to_owned()));
    }
    let Some(expression) = mount.sub_path_expr.as_deref().filter(|p| !p.is_empty()) else { return Ok(None) };
    let missing = RefCell::new(BTreeSet::new());
    let expanded = expand(expression, |name| {
        let set = inputs.env.iter().rfind(|(key, _)| key == name).filter(|(_, value)| !value.is_empty());
        if set.is_none() {
            missing.borrow_mut().insert(name.to_owned());
        }
        set.map(|(_, value)| value.clone())
    });
    let missing = missing.into_inner();
    match missing.is_empty() {
        true => Ok(Some(expanded)),
        false => {
            let names = missing.into_iter().collect::<Vec<_>>().join(", ");
            Err(format!(
                "failed to prepare subPath for volumeMount {:?} of container {:?}: missing value for {names}",
                mount.name, inputs.container.name
            ))
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mount_of(pod: &Pod, env: &[(&str, &str)]) -> Result<Mount, String> {
        let root = tempfile::tempdir().unwrap();
        let env: Vec<_> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let inputs = MountInputs {
            root_dir: root.path(),
            pod,
            container: &spec::spec(pod).containers[0],
            volumes: &VolumeSet::default(),
            images: &BTreeMap::from([("i".to_owned(), "sha256:1".to_owned())]),
            env: &env,
            hosts_file: None,
        };
        container_mounts(&inputs).map(|mounts| mounts[0].clone())
    }

    fn pod(mount: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "spec": {
            "containers": [{"name": "c", "volumeMounts": [mount]}],
            "volumes": [{"name": "i", "image": {"reference": "example.local/data:1"}}],
        }}))
        .unwrap()
    }

    #[test]
    fn the_runtime_mounts_images() {
        let whole = mount_of(&pod(json!({"name": "i", "mountPath": "data"})), &[]).unwrap();
        let image = whole.image.clone().unwrap();
        assert_eq!(
            (image.image.as_str(), image.user_specified_image.as_str()),
            ("sha256:1", "example.local/data:1")
        );
        assert_eq!(
            (whole.container_path.as_str(), whole.host_path.as_str(), whole.readonly),
            ("/data", "", true)
        );
        let part =
            mount_of(&pod(json!({"name": "i", "mountPath": "/d", "subPathExpr": "a/$(P)"})), &[("P", "b")]);
        assert_eq!(part.unwrap().image_sub_path, "a/b");
    }

    #[test]
    fn an_empty_variable_makes_no_path() {
        let pod = pod(json!({"name": "i", "mountPath": "/d", "subPathExpr": "$(B)/$(P)"}));
        for env in [&[][..], &[("P", "")], &[("P", "x"), ("P", "")]] {
            let error = mount_of(&pod, &[env, &[("B", "b")]].concat()).unwrap_err();
            assert!(error.ends_with("missing value for P"), "{error}");
        }
        let error = mount_of(&pod, &[]).unwrap_err();
        assert!(error.ends_with("missing value for B, P"), "{error}");
    }
}
