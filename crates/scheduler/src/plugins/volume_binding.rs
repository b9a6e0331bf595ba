//! VolumeBinding: a pod goes where its volumes are, and claims that wait for a consumer get a volume there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::Quantity;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;

use super::labels::selects;
use super::selector;
use crate::framework::{
    Action, ClusterEvent, CycleState, Filter, Plugin, Points, PreBind, PreFilter, PreFilterResult, Reserve,
    Resource, Status, Verdict,
};
use crate::lister::Lister;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::snapshot::Snapshot;

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
const UNBOUND_IMMEDIATE: &str = "pod has unbound immediate PersistentVolumeClaims";
const ELSEWHERE: &str = "node(s) didn't match PersistentVolume's node affinity";
const NONE_TO_BIND: &str = "node(s) didn't find available persistent volumes to bind";
const VOLUME_GONE: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
/// How long claims may take to be bound (upstream's `bindTimeoutSeconds`).
const BIND_TIMEOUT: Duration = Duration::from_secs(600);

/// Binds claims to volumes of the node that is chosen.
pub struct VolumeBinding {
    client: kube::Client,
    lister: Arc<dyn Lister>,
    /// Volumes promised to pods on their way, by name, until the API says so.
    promised: Mutex<HashMap<String, String>>,
}

/// A pod's claims.
#[derive(Debug, Clone, Default)]
struct Claims {
    bound: Vec<Arc<PersistentVolumeClaim>>,
    /// They get a volume when the pod has a node.
    waiting: Vec<Arc<PersistentVolumeClaim>>,
}

/// The nodes, for the moment when one is chosen.
struct Places(Snapshot);

/// What is to be done once the pod has its node.
#[derive(Debug, Clone, Default)]
struct Decision {
    bind: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
    provision: Vec<Arc<PersistentVolumeClaim>>,
}

impl VolumeBinding {
    /// Looks up claims in `lister` and writes with `client`.
    pub fn new(client: kube::Client, lister: Arc<dyn Lister>) -> Self {
        Self { client, lister, promised: Mutex::default() }
    }

    fn claims(&self, pod: &PodInfo) -> Result<Claims, Status> {
        let mut claims = Claims::default();
        for volume in pod.spec().and_then(|spec| spec.volumes.as_ref()).into_iter().flatten() {
            let (name, is_ephemeral) = match (&volume.persistent_volume_claim, &volume.ephemeral) {
                (Some(source), _) => (source.claim_name.clone(), false),
                (None, Some(_)) => (format!("{}-{}", pod.name(), volume.name), true),
                (None, None) => continue,
            };
            let claim =
                self.lister.claim(pod.namespace(), &name).ok_or_else(|| missing(&name, is_ephemeral))?;
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(Status::unresolvable(format!(
                    "persistentvolumeclaim \"{name}\" is being deleted"
                )));
            }
            if is_bound(&claim) {
                claims.bound.push(claim);
            } else if volume_name(&claim).is_none() && self.waits_for_consumer(&claim) {
                claims.waiting.push(claim);
            } else {
                return Err(Status::unresolvable(UNBOUND_IMMEDIATE));
            }
        }
        Ok(claims)
    }

    fn waits_for_consumer(&self, claim: &PersistentVolumeClaim) -> bool {
        let class = self.lister.class(class_of(claim));
        class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
    }

    fn decide(&self, pod: &PodInfo, claims: &Claims, node: &NodeInfo) -> Result<Decision, Status> {
        for claim in &claims.bound {
            let name = volume_name(claim).unwrap_or_default();
            let volume = self.lister.volume(name).ok_or_else(|| Status::unresolvable(VOLUME_GONE))?;
            if !reaches(&volume, node) {
                return Err(Status::unresolvable(ELSEWHERE));
            }
        }
        let mut decision = Decision::default();
        if claims.waiting.is_empty() {
            return Ok(decision);
        }
        let volumes = self.lister.volumes();
        for claim in &claims.waiting {
            let chosen = |volume: &PersistentVolume| {
                decision.bind.iter().any(|(other, _)| other.metadata.name == volume.metadata.name)
            };
            let fitting = volumes.iter().filter(|volume| {
                !chosen(volume)
                    && !self.is_promised(volume, pod)
                    && fits(volume, claim)
                    && reaches(volume, node)
            });
            match fitting
                .min_by_key(|volume| (volume.spec.as_ref().map(|s| s.claim_ref.is_none()), capacity(volume)))
            {
                Some(volume) => decision.bind.push((volume.clone(), claim.clone())),
                None if self.is_provisioned(claim, node) => decision.provision.push(claim.clone()),
                None => return Err(Status::unresolvable(NONE_TO_BIND)),
            }
        }
        Ok(decision)
    }

    fn is_promised(&self, volume: &PersistentVolume, pod: &PodInfo) -> bool {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        self.promised.lock().get(name).is_some_and(|uid| uid != pod.uid())
    }

    /// True if a provisioner makes volumes of the claim's class for `node`.
    fn is_provisioned(&self, claim: &PersistentVolumeClaim, node: &NodeInfo) -> bool {
        let Some(class) = self.lister.class(class_of(claim)) else { return false };
        let terms = class.allowed_topologies.as_deref().unwrap_or_default();
        let allows = |term: &k8s_openapi::api::core::v1::TopologySelectorTerm| {
            term.match_label_expressions.iter().flatten().all(|requirement| {
                node.label(&requirement.key)
                    .is_some_and(|value| requirement.values.iter().any(|v| v == value))
            })
        };
        class.provisioner != NO_PROVISIONER && (terms.is_empty() || terms.iter().any(allows))
    }

    async fn carry_out(&self, decision: &Decision, pod: &PodInfo, node: &str) -> Result<(), kube::Error> {
        let params = PatchParams::default();
        for (volume, claim) in &decision.bind {
            let meta = &claim.metadata;
            let patch = json!({
                "metadata": {
                    "resourceVersion": volume.metadata.resource_version,
                    "annotations": {BOUND_BY_CONTROLLER: "yes"},
                },
                "spec": {"claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta.namespace,
                    "name": meta.name, "uid": meta.uid, "resourceVersion": meta.resource_version,
                }},
            });
            let api: Api<PersistentVolume> = Api::all(self.client.clone());
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            api.patch(name, &params, &Patch::Merge(patch)).await?;
        }
        for claim in &decision.provision {
            let patch = json!({"metadata": {"annotations": {SELECTED_NODE: node}}});
            let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), pod.namespace());
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            api.patch(name, &params, &Patch::Merge(patch)).await?;
        }
        Ok(())
    }

    /// Waits until all of the pod's claims are bound.
    async fn bound(&self, pod: &PodInfo) {
        let mut changes = self.lister.changes();
        loop {
            changes.borrow_and_update();
            if self.claims(pod).is_ok_and(|claims| claims.waiting.is_empty())
                || changes.changed().await.is_err()
            {
                return;
            }
        }
    }

    async fn bind_all(&self, state: &CycleState, pod: &PodInfo, node: &str) -> Verdict {
        let Some(decision) = state.get::<Decision>() else { return Ok(()) };
        if decision.bind.is_empty() && decision.provision.is_empty() {
            return Ok(());
        }
        let failed = |text: String| Status::error(format!("binding volumes: {text}"));
        self.carry_out(decision, pod, node).await.map_err(|error| {
            failed(match error {
                kube::Error::Api(status) => status.message.clone(),
                other => other.to_string(),
            })
        })?;
        let waited = tokio::time::timeout(BIND_TIMEOUT, self.bound(pod)).await;
        self.release(pod);
        waited.map_err(|_| failed("context deadline exceeded".to_owned()))
    }

    fn release(&self, pod: &PodInfo) {
        self.promised.lock().retain(|_, uid| uid != pod.uid());
    }
}

fn missing(name: &str, is_ephemeral: bool) -> Status {
    Status::unresolvable(match is_ephemeral {
        true => {
            format!("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\"")
        }
        false => format!("persistentvolumeclaim \"{name}\" not found"),
    })
}

fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty())
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let annotations = claim.metadata.annotations.as_ref();
    volume_name(claim).is_some() && annotations.is_some_and(|a| a.contains_key(BIND_COMPLETED))
}

fn class_of(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default()
}

/// True if the volume can be used on the node.
fn reaches(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    affinity.and_then(|a| a.required.as_ref()).is_none_or(|required| selector::matches(required, node))
}

fn bytes(
    list: Option<
        &std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
    >,
) -> i64 {
    let text = list.and_then(|list| list.get("storage"));
    text.and_then(|text| Quantity::parse(&text.0).ok()).map_or(0, |quantity| quantity.value())
}

fn capacity(volume: &PersistentVolume) -> i64 {
    bytes(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

/// True if the volume is free, or kept for this claim, and is what the claim asks for.
fn fits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (&volume.spec, &claim.spec) else { return false };
    let meta = &claim.metadata;
    if let Some(kept) = &has.claim_ref
        && (kept.name != meta.name
            || kept.namespace != meta.namespace
            || (kept.uid.is_some() && kept.uid != meta.uid))
    {
        return false;
    }
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Available");
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let modes = has.access_modes.as_deref().unwrap_or_default();
    phase == "Available"
        && volume.metadata.deletion_timestamp.is_none()
        && has.storage_class_name.as_deref().unwrap_or_default() == class_of(claim)
        && mode(&has.volume_mode) == mode(&wants.volume_mode)
        && wants.access_modes.iter().flatten().all(|wanted| modes.contains(wanted))
        && capacity(volume) >= bytes(wants.resources.as_ref().and_then(|r| r.requests.as_ref()))
        && wants.selector.as_ref().is_none_or(|s| selects(Some(s), volume.metadata.labels.as_ref()))
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn points(self: Arc<Self>) -> Points {
        Points {
            pre_filter: Some(self.clone()),
            filter: Some(self.clone()),
            reserve: Some(self.clone()),
            pre_bind: Some(self),
            ..Points::default()
        }
    }

    fn events(&self) -> Vec<ClusterEvent> {
        vec![
            ClusterEvent::new(Resource::PersistentVolumeClaim, Action::ALL),
            ClusterEvent::new(Resource::PersistentVolume, Action::ALL),
            ClusterEvent::new(Resource::StorageClass, Action::ALL),
            ClusterEvent::new(Resource::Node, Action::ADD.or(Action::UPDATE_LABEL)),
        ]
    }
}

impl PreFilter for VolumeBinding {
    fn pre_filter(
        &self,
        state: &mut CycleState,
        pod: &PodInfo,
        nodes: &Snapshot,
    ) -> Result<PreFilterResult, Status> {
        let claims = self.claims(pod)?;
        let skip = claims.bound.is_empty() && claims.waiting.is_empty();
        if !claims.waiting.is_empty() {
            state.put(Places(nodes.clone()));
        }
        state.put(claims);
        Ok(PreFilterResult { skip, nodes: None })
    }
}

impl Filter for VolumeBinding {
    fn filter(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> Verdict {
        let Some(claims) = state.get::<Claims>() else { return Ok(()) };
        self.decide(pod, claims, node).map(drop)
    }
}

impl Reserve for VolumeBinding {
    fn reserve(&self, state: &mut CycleState, pod: &PodInfo, node: &str) -> Verdict {
        let Some(claims) = state.get::<Claims>().filter(|claims| !claims.waiting.is_empty()) else {
            return Ok(());
        };
        let found = state.get::<Places>().and_then(|places| places.0.get(node));
        let node = found.ok_or_else(|| Status::error(format!("node {node:?} not found")))?;
        let decision = self.decide(pod, claims, node)?;
        let mut promised = self.promised.lock();
        for (volume, _) in &decision.bind {
            promised.insert(volume.metadata.name.clone().unwrap_or_default(), pod.uid().to_owned());
        }
        drop(promised);
        state.put(decision);
        Ok(())
    }

    fn unreserve(&self, _: &CycleState, pod: &PodInfo, _: &str) {
        self.release(pod);
    }
}

impl PreBind for VolumeBinding {
    fn pre_bind<'a>(
        &'a self,
        state: &'a CycleState,
        pod: &'a PodInfo,
        node: &'a str,
    ) -> BoxFuture<'a, Verdict> {
        self.bind_all(state, pod, node).boxed()
    }
}
