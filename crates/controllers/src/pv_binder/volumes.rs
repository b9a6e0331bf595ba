//! The phase of volumes, and what becomes of one whose claim is gone.

use client::{EventType, ObjectKey};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::PostParams;

use super::{Controller, Work, plan};
use crate::Error;
use crate::common::{api, time};

/// Set on volumes by the provisioner that made them and will remove them.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

impl Controller {
    pub(super) async fn reconcile_volume(&self, name: &str) -> Result<(), Error> {
        let Some(volume) = self.volumes.get(None, name) else { return Ok(()) };
        let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.clone());
        let Some(reference) = reference.filter(|r| r.uid.as_ref().is_some_and(|uid| !uid.is_empty())) else {
            return self.set_phase(&volume, "Available").await.map(drop);
        };
        let key = ObjectKey {
            namespace: reference.namespace.clone(),
            name: reference.name.clone().unwrap_or_default(),
        };
        let mut claim = self.claims.get_key(&key).map(|c| PersistentVolumeClaim::clone(&c));
        if claim.is_none() {
            // The cache may be behind, and what is released may be removed.
            let claims: Api<PersistentVolumeClaim> =
                Api::namespaced(self.client.clone(), key.namespace_or_empty());
            claim = claims.get_opt(&key.name).await?;
        }
        let Some(claim) = claim.filter(|c| c.metadata.uid == reference.uid) else {
            if volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Failed") {
                return Ok(());
            }
            let released = self.set_phase(&volume, "Released").await?;
            return self.reclaim(&released).await;
        };
        match claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).filter(|n| !n.is_empty()) {
            None => self.queue.add(Work::Claim(key)),
            Some(of_claim) if of_claim == name => {
                self.set_phase(&volume, "Bound").await?;
            }
            Some(_) => {
                let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
                volumes.replace(name, &PostParams::default(), &plan::let_go(&volume)).await?;
            }
        }
        Ok(())
    }

    async fn set_phase(&self, volume: &PersistentVolume, phase: &str) -> Result<PersistentVolume, Error> {
        let Some(wanted) = plan::in_phase(volume, phase, time::now()) else { return Ok(volume.clone()) };
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let name = volume.metadata.name.clone().unwrap_or_default();
        let written = volumes.replace_status(&name, &PostParams::default(), &wanted).await;
        Ok(api::ignore_not_found(written)?.unwrap_or(wanted))
    }

    /// Provisioners remove what they made; nothing else is removed or recycled by us.
    async fn reclaim(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let spec = volume.spec.clone().unwrap_or_default();
        let provisioned =
            volume.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(PROVISIONED_BY))
                || spec.csi.is_some();
        let (reason, text) = match spec.persistent_volume_reclaim_policy.as_deref() {
            Some("Delete") if !provisioned => (
                "VolumeFailedDelete",
                "error getting deleter volume plugin: no deletable volume plugin matched",
            ),
            Some("Recycle") => ("VolumeFailedRecycle", "recycling of volumes is not supported"),
            _ => return Ok(()),
        };
        self.set_phase(volume, "Failed").await?;
        self.events.event(volume, EventType::Warning, reason, text);
        Ok(())
    }
}
