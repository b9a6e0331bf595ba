//! Keeps claims that pods use, and volumes that claims use, from being removed (upstream's pvcprotection and
//! pvprotection).

use std::sync::Arc;

use client::{Event, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::PostParams;
use kube::core::ObjectMeta;

use crate::Error;
use crate::common::watching::watch_keys;
use crate::common::{api, pods};
use crate::context::Context;

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
/// Index of pods by the claims they use, as `namespace/claim`.
const CLAIM_INDEX: &str = "claims";

/// The finalizers that an object is to have; None if it has them.
fn plan(meta: &ObjectMeta, finalizer: &str, is_used: bool) -> Option<Vec<String>> {
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    let has = finalizers.iter().any(|f| f == finalizer);
    match (meta.deletion_timestamp.is_some(), has) {
        (true, true) if !is_used => finalizers.retain(|f| f != finalizer),
        (false, false) => finalizers.push(finalizer.to_owned()),
        _ => return None,
    }
    Some(finalizers)
}

/// The claims that a pod names, those of its ephemeral volumes included.
fn claims_of(pod: &Pod) -> Vec<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
    volumes
        .iter()
        .filter_map(|v| match (&v.persistent_volume_claim, &v.ephemeral) {
            (Some(source), _) => Some(format!("{namespace}/{}", source.claim_name)),
            (None, Some(_)) => Some(format!("{namespace}/{}-{}", pods::name(pod), v.name)),
            _ => None,
        })
        .collect()
}

/// Starts the controller of claims.
pub(crate) async fn start_claims(context: Context) -> Result<(), Error> {
    let claims = context.informers.get::<PersistentVolumeClaim>();
    let pods = context.informers.get::<Pod>();
    pods.add_index(CLAIM_INDEX, claims_of);
    let queue = WorkQueue::new("pvc-protection");
    watch_keys(&claims, &queue);
    let of_pods = queue.clone();
    pods.on_event(move |event| {
        let is_over = match event {
            Event::Deleted(_) => true,
            _ => pods::is_finished(event.object()),
        };
        if is_over {
            let namespace = event.object().metadata.namespace.clone().unwrap_or_default();
            for claim in claims_of(event.object()) {
                let name = claim.rsplit('/').next().unwrap_or_default();
                of_pods.add(ObjectKey::namespaced(namespace.clone(), name));
            }
        }
    });
    claims.synced().await;
    pods.synced().await;
    let (claims, pods, client) = (claims.cache(), pods.cache(), context.client.clone());
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let (claim, client) = (claims.get_key(&key), client.clone());
        let users: Vec<Arc<Pod>> = pods.by_index(CLAIM_INDEX, &key.to_string());
        async move {
            let Some(claim) = claim else { return Ok(Outcome::Done) };
            // A pod that never got a node uses nothing.
            let is_used = users.iter().any(|pod| !pods::is_finished(pod) && pods::node_name(pod).is_some());
            if let Some(finalizers) = plan(&claim.metadata, CLAIM_FINALIZER, is_used) {
                let mut wanted = PersistentVolumeClaim::clone(&claim);
                wanted.metadata.finalizers = Some(finalizers);
                let api: Api<PersistentVolumeClaim> = Api::namespaced(client, key.namespace_or_empty());
                api::ignore_not_found(api.replace(&key.name, &PostParams::default(), &wanted).await)?;
            }
            Ok::<_, Error>(Outcome::Done)
        }
    });
    Ok(())
}

/// Starts the controller of volumes.
pub(crate) async fn start_volumes(context: Context) -> Result<(), Error> {
    let volumes = context.informers.get::<PersistentVolume>();
    let queue = WorkQueue::new("pv-protection");
    watch_keys(&volumes, &queue);
    volumes.synced().await;
    let (volumes, client) = (volumes.cache(), context.client.clone());
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let (volume, client) = (volumes.get_key(&key), client.clone());
        async move {
            let Some(volume) = volume else { return Ok(Outcome::Done) };
            let is_used = volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound");
            if let Some(finalizers) = plan(&volume.metadata, VOLUME_FINALIZER, is_used) {
                let mut wanted = PersistentVolume::clone(&volume);
                wanted.metadata.finalizers = Some(finalizers);
                let api: Api<PersistentVolume> = Api::all(client);
                api::ignore_not_found(api.replace(&key.name, &PostParams::default(), &wanted).await)?;
            }
            Ok::<_, Error>(Outcome::Done)
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;
    use serde_json::json;

    #[test]
    fn finalizers_come_at_once_and_go_when_unused() {
        for (leaving, has, used, expected) in [
            (false, false, false, Some(1)),
            (false, true, false, None),
            (true, true, true, None),
            (true, true, false, Some(0)),
            (true, false, false, None),
        ] {
            let meta: ObjectMeta = object(json!({
                "deletionTimestamp": if leaving { json!("2026-01-01T00:00:00Z") } else { json!(null) },
                "finalizers": if has { json!([CLAIM_FINALIZER]) } else { json!(null) }}));
            assert_eq!(
                plan(&meta, CLAIM_FINALIZER, used).map(|f| f.len()),
                expected,
                "{leaving} {has} {used}"
            );
        }
    }
}
