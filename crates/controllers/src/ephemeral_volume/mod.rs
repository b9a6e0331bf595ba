//! Makes the claims of pods' generic ephemeral volumes (upstream's ephemeral volume controller).

use client::{Event, EventRecorder, EventType, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;

use crate::Error;
use crate::common::{api, owner, pods};
use crate::context::Context;

/// The claims that a pod's ephemeral volumes need.
fn plan(pod: &Pod) -> Vec<PersistentVolumeClaim> {
    if pod.metadata.deletion_timestamp.is_some() || pods::is_finished(pod) {
        return Vec::new();
    }
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
    volumes
        .iter()
        .filter_map(|volume| {
            let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
            let meta = template.metadata.clone().unwrap_or_default();
            Some(PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(format!("{}-{}", pods::name(pod), volume.name)),
                    namespace: pod.metadata.namespace.clone(),
                    labels: meta.labels,
                    annotations: meta.annotations,
                    owner_references: Some(vec![owner::controller_reference(pod)]),
                    ..ObjectMeta::default()
                },
                spec: Some(template.spec.clone()),
                status: None,
            })
        })
        .collect()
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let pods = context.informers.get::<Pod>();
    let claims = context.informers.get::<PersistentVolumeClaim>();
    let queue = WorkQueue::new("ephemeral-volume");
    let of_pods = queue.clone();
    pods.on_event(move |event| {
        // A pod's volumes never change.
        if let Event::Added(pod) = event
            && !plan(pod).is_empty()
        {
            of_pods.add(ObjectKey::of(pod.as_ref()));
        }
    });
    let (of_claims, cache) = (queue.clone(), pods.cache());
    claims.on_event(move |event| {
        if let Event::Deleted(claim) = event
            && let Some(reference) = owner::controller_of(&claim.metadata)
            && let Some(pod) = owner::resolve(&cache, claim.metadata.namespace.as_deref(), reference)
        {
            of_claims.add(ObjectKey::of(pod.as_ref()));
        }
    });
    pods.synced().await;
    claims.synced().await;
    let (pods, claims) = (pods.cache(), claims.cache());
    let (client, events) = (context.client.clone(), context.events.clone());
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let (pod, claims, client, events) =
            (pods.get_key(&key), claims.clone(), client.clone(), events.clone());
        async move {
            let Some(pod) = pod else { return Ok(Outcome::Done) };
            for claim in plan(&pod) {
                let name = claim.metadata.name.clone().unwrap_or_default();
                match claims.get(key.namespace.as_deref(), &name) {
                    None => create(&client, &events, &pod, &claim).await?,
                    Some(known) => check_owner(&events, &pod, &known)?,
                }
            }
            Ok::<_, Error>(Outcome::Done)
        }
    });
    Ok(())
}

fn check_owner(events: &EventRecorder, pod: &Pod, claim: &PersistentVolumeClaim) -> Result<(), Error> {
    let is_ours = owner::controller_of(&claim.metadata).is_some_and(|r| r.uid == pods::uid(pod));
    if is_ours {
        return Ok(());
    }
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let text = format!("PVC {name:?} was not created for pod {:?} (pod is not owner)", pods::name(pod));
    events.event(pod, EventType::Warning, "FailedBinding", text.clone());
    Err(Error::Again(text))
}

async fn create(
    client: &kube::Client,
    events: &EventRecorder,
    pod: &Pod,
    claim: &PersistentVolumeClaim,
) -> Result<(), Error> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    match claims.create(&PostParams::default(), claim).await {
        Ok(_) => Ok(()),
        Err(error) if api::is_already_exists(&error) => {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            claims.get_opt(name).await?.map_or(Ok(()), |known| check_owner(events, pod, &known))
        }
        Err(error) => {
            let text = format!("ephemeral volume: {}", api::message(&error));
            events.event(pod, EventType::Warning, "FailedBinding", text);
            Err(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::pod;
    use serde_json::json;

    #[test]
    fn every_ephemeral_volume_has_a_claim_of_its_pod() {
        let volumes = json!([{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"a": "b"}},
            "spec": {"accessModes": ["ReadWriteOnce"]}}}}, {"name": "other", "emptyDir": {}}]);
        let claims = plan(&pod("p").with("/spec", "volumes", volumes).build());
        assert_eq!(claims.len(), 1);
        assert_eq!(claims[0].metadata.name.as_deref(), Some("p-scratch"));
        assert_eq!(claims[0].metadata.owner_references.as_ref().unwrap()[0].kind, "Pod");
    }
}
