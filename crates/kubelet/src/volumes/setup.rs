//! Making a pod's volumes and keeping them up to date.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Volume};

use super::atomic::{self, Payload};
use super::payload::Keys;
use super::{ApiObjects, Claims, Tokens, empty_dir, host_path, ownership, payload, pod_dir, projected};
use crate::container::field::FieldSource;
use crate::pod::spec;

const DEFAULT_MODE: u32 = 0o644;

/// A volume on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostVolume {
    /// Where it lies.
    pub path: PathBuf,
    /// True if it must not be written to.
    pub read_only: bool,
    /// False for folders of the node that the pod only borrows.
    pub owned: bool,
}

/// A pod's volumes by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeSet {
    /// Where each lies.
    pub by_name: BTreeMap<String, HostVolume>,
    /// Time until one needs new content (a token).
    pub refresh_after: Option<Duration>,
}

/// Makes volumes.
#[derive(Clone)]
pub struct Volumes {
    /// The kubelet's state.
    pub root_dir: PathBuf,
    /// Config maps and secrets.
    pub objects: ApiObjects,
    /// Service account tokens.
    pub tokens: Arc<Tokens>,
    /// Persistent volume claims.
    pub claims: Claims,
    /// Memory that pods can have, in bytes.
    pub node_memory: i64,
}

impl Volumes {
    /// Makes or updates all volumes of the pod. The error names the volume; what is already there stays.
    pub async fn set_up(&self, pod: &Pod, fields: &FieldSource<'_>) -> Result<VolumeSet, String> {
        let mut set = VolumeSet::default();
        // An image is mounted by the runtime, with the container.
        for volume in spec::spec(pod).volumes.iter().flatten().filter(|v| v.image.is_none()) {
            let made = self.set_up_one(pod, volume, fields).await;
            let (made, renew) =
                made.map_err(|e| format!("MountVolume.SetUp failed for volume {:?} : {e}", volume.name))?;
            set.by_name.insert(volume.name.clone(), made);
            if let Some(left) = renew {
                set.refresh_after = Some(set.refresh_after.map_or(left, |r| r.min(left)));
            }
        }
        Ok(set)
    }

    async fn set_up_one(
        &self,
        pod: &Pod,
        volume: &Volume,
        fields: &FieldSource<'_>,
    ) -> Result<(HostVolume, Option<Duration>), String> {
        let namespace = spec::namespace(pod);
        let mode = |mode: Option<i32>| mode.map_or(DEFAULT_MODE, |m| m as u32);
        let mut files = Payload::new();
        if let Some(source) = &volume.empty_dir {
            let path = self.path(pod, "empty-dir", &volume.name);
            let fresh = !path.exists();
            empty_dir::set_up(&path, source, pod, self.node_memory)?;
            if let (Some(gid), true) = (fs_group(pod), fresh) {
                ownership::give_to_group(&path, gid, false, false).map_err(|e| e.to_string())?;
            }
            return Ok((HostVolume { path, read_only: false, owned: true }, None));
        }
        if let Some(source) = &volume.host_path {
            let path = PathBuf::from(&source.path);
            host_path::check(&path, source.type_.as_deref().unwrap_or_default())?;
            return Ok((HostVolume { path, read_only: false, owned: false }, None));
        }
        if let Some(source) = &volume.config_map {
            let keys = Keys::new(source.items.as_deref(), mode(source.default_mode), source.optional);
            payload::add_config_map(&mut files, &self.objects, (namespace, &source.name), &keys).await?;
            return self.write(pod, "configmap", &volume.name, &files, false).map(|v| (v, None));
        }
        if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            let keys = Keys::new(source.items.as_deref(), mode(source.default_mode), source.optional);
            payload::add_secret(&mut files, &self.objects, (namespace, name), &keys).await?;
            return self.write(pod, "secret", &volume.name, &files, true).map(|v| (v, None));
        }
        if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            payload::add_fields(&mut files, items, mode(source.default_mode), fields)?;
            return self.write(pod, "downward-api", &volume.name, &files, true).map(|v| (v, None));
        }
        if let Some(source) = &volume.projected {
            let (files, renew) = projected::files(source, pod, fields, &self.objects, &self.tokens).await?;
            return self.write(pod, "projected", &volume.name, &files, true).map(|v| (v, renew));
        }
        self.set_up_claim(pod, volume).await.map(|v| (v, None))
    }

    async fn set_up_claim(&self, pod: &Pod, volume: &Volume) -> Result<HostVolume, String> {
        let (claim, read_only) = if let Some(source) = &volume.persistent_volume_claim {
            (source.claim_name.clone(), source.read_only == Some(true))
        } else if volume.ephemeral.is_some() {
            (format!("{}-{}", spec::name(pod), volume.name), false)
        } else {
            return Err(format!("{} volumes are not supported by this kubelet", kind(volume)));
        };
        let (path, always_read_only) = self.claims.resolve(spec::namespace(pod), &claim).await?;
        Ok(HostVolume { path, read_only: read_only || always_read_only, owned: false })
    }

    fn path(&self, pod: &Pod, plugin: &str, name: &str) -> PathBuf {
        pod_dir(&self.root_dir, &spec::uid(pod))
            .join("volumes")
            .join(format!("kubernetes.io~{plugin}"))
            .join(name)
    }

    fn write(
        &self,
        pod: &Pod,
        plugin: &str,
        name: &str,
        files: &Payload,
        in_memory: bool,
    ) -> Result<HostVolume, String> {
        let path = self.path(pod, plugin, name);
        let made = || -> std::io::Result<()> {
            fs::create_dir_all(&path)?;
            if in_memory {
                empty_dir::memory(&path, 0o777, 0)?;
            } else {
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
            }
            let group = fs_group(pod);
            let give = |folder: &Path| match group {
                Some(gid) => ownership::give_to_group(folder, gid, true, false),
                None => Ok(()),
            };
            atomic::write(&path, files, give).map(drop)
        };
        made().map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(HostVolume { path, read_only: true, owned: true })
    }
}

fn fs_group(pod: &Pod) -> Option<u32> {
    spec::spec(pod).security_context.as_ref()?.fs_group.and_then(|gid| u32::try_from(gid).ok())
}

/// The field of the volume that is set, for messages.
fn kind(volume: &Volume) -> String {
    let json = serde_json::to_value(volume).unwrap_or_default();
    let field = json.as_object().and_then(|fields| fields.keys().find(|key| *key != "name").cloned());
    field.unwrap_or_else(|| "unknown".to_owned())
}
