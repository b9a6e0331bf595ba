//! Persistent volume claims: the path behind a bound claim, for the volume types that need no driver.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec};
use kube::Api;

use super::host_path;

/// Resolves claims.
#[derive(Clone)]
pub struct Claims {
    /// The API.
    pub client: kube::Client,
}

impl Claims {
    /// The path on the node behind the claim, and whether it is read-only.
    pub async fn resolve(&self, namespace: &str, claim: &str) -> Result<(PathBuf, bool), String> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
        let found = claims.get_opt(claim).await.map_err(|e| format!("get claim {namespace}/{claim}: {e}"))?;
        let Some(found) = found else {
            return Err(format!(
                "error processing PVC {namespace}/{claim}: persistentvolumeclaim {claim:?} not found"
            ));
        };
        let bound = found.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
        let name = found.spec.and_then(|s| s.volume_name).filter(|name| bound && !name.is_empty());
        let Some(name) = name else {
            return Err(format!("error processing PVC {namespace}/{claim}: PVC is not bound"));
        };
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let volume = volumes.get(&name).await.map_err(|e| format!("get persistent volume {name}: {e}"))?;
        let owner = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()).and_then(|r| r.uid.as_ref());
        if owner.is_some() && owner != found.metadata.uid.as_ref() {
            return Err(format!(
                "error processing PVC {namespace}/{claim}: volume {name:?} is bound to another claim"
            ));
        }
        path_of(&name, &volume.spec.unwrap_or_default())
    }
}

fn path_of(name: &str, spec: &PersistentVolumeSpec) -> Result<(PathBuf, bool), String> {
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(format!("persistent volume {name:?}: block volumes are not supported by this kubelet"));
    }
    let read_only = spec
        .access_modes
        .as_ref()
        .is_some_and(|modes| !modes.is_empty() && modes.iter().all(|mode| mode == "ReadOnlyMany"));
    if let Some(source) = &spec.host_path {
        let path = PathBuf::from(&source.path);
        host_path::check(&path, source.type_.as_deref().unwrap_or_default())?;
        return Ok((path, read_only));
    }
    if let Some(source) = &spec.local {
        let path = PathBuf::from(&source.path);
        host_path::check(&path, "Directory")?;
        return Ok((path, read_only));
    }
    let kind = if spec.csi.is_some() { "CSI" } else { "its type of" };
    Err(format!("persistent volume {name:?}: {kind} volumes are not supported by this kubelet"))
}
