//! Binds PersistentVolumeClaims to PersistentVolumes that exist (upstream's persistentvolume controller). Volumes are
//! made and removed by provisioners outside; claims of a class that waits for its first consumer are bound when a pod
//! that uses them has a node.

mod find;
mod plan;
mod volumes;

use std::sync::Arc;

use client::{Cache, Event, EventRecorder, EventType, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::PostParams;

use crate::Error;
use crate::common::watching::watch_keys;
use crate::common::{api, pods, time};
use crate::context::Context;

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const PROVISIONER: [&str; 2] =
    ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"];
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// The node for which a claim that waited is to get its volume, written by the scheduler.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Work {
    Claim(ObjectKey),
    Volume(String),
}

struct Controller {
    client: kube::Client,
    events: EventRecorder,
    queue: WorkQueue<Work>,
    claims: Cache<PersistentVolumeClaim>,
    volumes: Cache<PersistentVolume>,
    classes: Cache<StorageClass>,
    pods: Cache<Pod>,
    nodes: Cache<Node>,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let claims = context.informers.get::<PersistentVolumeClaim>();
    let volumes = context.informers.get::<PersistentVolume>();
    let classes = context.informers.get::<StorageClass>();
    let pods = context.informers.get::<Pod>();
    let nodes = context.informers.get::<Node>();
    let queue = WorkQueue::new("pv-binder");
    let keys = WorkQueue::new("pv-binder-claims");
    watch_keys(&claims, &keys);
    let (of_volumes, cache) = (queue.clone(), claims.cache());
    volumes.on_event(move |event| {
        let volume = event.object();
        of_volumes.add(Work::Volume(volume.metadata.name.clone().unwrap_or_default()));
        // A new or freed volume may be what some claim waits for.
        let waiting = cache.list_where(|c| {
            !plan::is_completed(c) || c.spec.as_ref().is_some_and(|s| s.volume_name == volume.metadata.name)
        });
        waiting.iter().for_each(|claim| of_volumes.add(Work::Claim(ObjectKey::of(claim.as_ref()))));
    });
    let (of_classes, cache) = (queue.clone(), claims.cache());
    classes.on_event(move |_| {
        let waiting = cache.list_where(|c| !plan::is_completed(c));
        waiting.iter().for_each(|claim| of_classes.add(Work::Claim(ObjectKey::of(claim.as_ref()))));
    });
    let of_pods = queue.clone();
    pods.on_event(move |event| {
        if let Event::Updated { old, new } = event
            && pods::node_name(old) != pods::node_name(new)
        {
            for name in claims_of(new) {
                let namespace = new.metadata.namespace.clone().unwrap_or_default();
                of_pods.add(Work::Claim(ObjectKey::namespaced(namespace, name)));
            }
        }
    });
    claims.synced().await;
    volumes.synced().await;
    classes.synced().await;
    pods.synced().await;
    nodes.synced().await;
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        events: context.events.clone(),
        queue: queue.clone(),
        claims: claims.cache(),
        volumes: volumes.cache(),
        classes: classes.cache(),
        pods: pods.cache(),
        nodes: nodes.cache(),
    });
    let (to, volumes) = (queue.clone(), volumes.cache());
    run_workers(&context.scope, keys, 1, move |key: ObjectKey| {
        // A claim that goes or changes may free its volume.
        let of_claim = volumes.list_where(|v| {
            let reference = v.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
            reference.is_some_and(|r| r.namespace == key.namespace && r.name.as_deref() == Some(&key.name))
        });
        of_claim.iter().for_each(|v| to.add(Work::Volume(v.metadata.name.clone().unwrap_or_default())));
        to.add(Work::Claim(key));
        async { Ok::<_, Error>(Outcome::Done) }
    });
    // One worker: two claims must not choose the same volume.
    run_workers(&context.scope, queue, 1, move |work: Work| {
        let controller = controller.clone();
        async move {
            match work {
                Work::Claim(key) => controller.reconcile_claim(&key).await?,
                Work::Volume(name) => controller.reconcile_volume(&name).await?,
            }
            Ok::<_, Error>(Outcome::Done)
        }
    });
    Ok(())
}

/// The names of the claims that a pod uses.
fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
    let named = |v: &k8s_openapi::api::core::v1::Volume| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(source), _) => Some(source.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pods::name(pod), v.name)),
        _ => None,
    };
    volumes.iter().filter_map(named).collect()
}

impl Controller {
    async fn reconcile_claim(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(claim) = self.claims.get_key(key) else { return Ok(()) };
        if plan::is_completed(&claim) { self.keep_bound(&claim).await } else { self.bind_new(&claim).await }
    }

    async fn keep_bound(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let name = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|n| !n.is_empty());
        let Some(name) = name else {
            let text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
            return self.lose(claim, "ClaimLost", text).await;
        };
        let Some(volume) = self.volumes.get(None, &name) else {
            let text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            return self.lose(claim, "ClaimLost", text).await;
        };
        let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        if reference.is_none() || find::is_bound_to(&volume, claim) {
            return self.bind(claim, &volume).await;
        }
        let text = "Two claims are bound to the same volume, this one is bound incorrectly";
        self.lose(claim, "ClaimMisbound", text).await
    }

    async fn lose(&self, claim: &PersistentVolumeClaim, reason: &str, text: &str) -> Result<(), Error> {
        if let Some(lost) = plan::unbound(claim, "Lost") {
            self.write_claim_status(&lost).await?;
            self.events.event(claim, EventType::Warning, reason, text);
        }
        Ok(())
    }

    async fn bind_new(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let named = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).filter(|n| !n.is_empty());
        if let Some(name) = named {
            return self.bind_named(claim, &name).await;
        }
        let class = find::class_of_claim(claim);
        if class.is_none() && self.set_default_class(claim).await? {
            return Ok(());
        }
        let class = class.filter(|c| !c.is_empty());
        let known = class.as_ref().and_then(|name| self.classes.get(None, name));
        let waits =
            known.as_ref().is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
        let node = if waits { self.consumers_node(claim) } else { None };
        let prebound = self.volumes.list_where(|v| find::is_bound_to(v, claim));
        let candidates = if waits && node.is_none() { prebound } else { self.volumes.list() };
        if let Some(volume) = find::find(claim, &candidates, node.as_deref()) {
            return self.bind(claim, &volume).await;
        }
        let selected = claim.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(SELECTED_NODE));
        match (class, known) {
            _ if waits && node.is_none() && !selected => {
                let text = "waiting for first consumer to be created before binding";
                self.events.event(claim, EventType::Normal, "WaitForFirstConsumer", text);
            }
            (None, _) => {
                let text = "no persistent volumes available for this claim and no storage class is set";
                self.events.event(claim, EventType::Normal, "FailedBinding", text);
            }
            (Some(name), None) => {
                let text = format!("storageclass.storage.k8s.io {name:?} not found");
                self.events.event(claim, EventType::Warning, "ProvisioningFailed", text);
            }
            (Some(_), Some(class)) => self.ask_provisioner(claim, &class.provisioner).await?,
        }
        match plan::unbound(claim, "Pending") {
            Some(pending) => self.write_claim_status(&pending).await,
            None => Ok(()),
        }
    }

    async fn bind_named(&self, claim: &PersistentVolumeClaim, name: &str) -> Result<(), Error> {
        let Some(volume) = self.volumes.get(None, name) else {
            return match plan::unbound(claim, "Pending") {
                Some(pending) => self.write_claim_status(&pending).await,
                None => Ok(()),
            };
        };
        let reference = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
        if reference.is_some() && !find::is_bound_to(&volume, claim) {
            let text = format!("volume {name:?} already bound to a different claim.");
            self.events.event(claim, EventType::Warning, "FailedBinding", text);
            return Ok(());
        }
        if let (None, Err(why)) = (reference, find::check(&volume, claim)) {
            let text = format!("Cannot bind to requested volume {name:?}: {why}");
            self.events.event(claim, EventType::Warning, "VolumeMismatch", text);
            return Ok(());
        }
        self.bind(claim, &volume).await
    }

    /// Gives a claim without class the default one. True if it did: the claim comes back changed.
    async fn set_default_class(&self, claim: &PersistentVolumeClaim) -> Result<bool, Error> {
        let is_default = |c: &StorageClass| {
            c.metadata.annotations.as_ref().and_then(|a| a.get(DEFAULT_CLASS)).is_some_and(|v| v == "true")
        };
        let newest = self.classes.list_where(is_default).into_iter().max_by_key(|c| {
            (c.metadata.creation_timestamp.as_ref().map(|t| t.0), std::cmp::Reverse(c.metadata.name.clone()))
        });
        let Some(class) = newest else { return Ok(false) };
        let mut wanted = claim.clone();
        wanted.spec.get_or_insert_default().storage_class_name.clone_from(&class.metadata.name);
        self.write_claim(&wanted).await?;
        Ok(true)
    }

    /// The node of a pod that uses the claim, or the one that the scheduler wrote.
    fn consumers_node(&self, claim: &PersistentVolumeClaim) -> Option<Arc<Node>> {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let selected = claim.metadata.annotations.as_ref().and_then(|a| a.get(SELECTED_NODE)).cloned();
        let of_pod = || {
            let pods = self.pods.list_namespace(claim.metadata.namespace.as_deref().unwrap_or_default());
            let user =
                pods.iter().find(|p| pods::node_name(p).is_some() && claims_of(p).iter().any(|c| c == name));
            user.and_then(|p| pods::node_name(p).map(str::to_owned))
        };
        self.nodes.get(None, &selected.or_else(of_pod)?)
    }

    /// Notes on the claim who is to make its volume.
    async fn ask_provisioner(&self, claim: &PersistentVolumeClaim, provisioner: &str) -> Result<(), Error> {
        if provisioner == NO_PROVISIONER {
            let text = "no volume plugin matched name: kubernetes.io/no-provisioner";
            self.events.event(claim, EventType::Warning, "ProvisioningFailed", text);
            return Ok(());
        }
        let text = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        self.events.event(claim, EventType::Normal, "ExternalProvisioning", text);
        let mut wanted = claim.clone();
        let annotations = wanted.metadata.annotations.get_or_insert_default();
        for name in PROVISIONER {
            annotations.insert(name.to_owned(), provisioner.to_owned());
        }
        if wanted != *claim { self.write_claim(&wanted).await.map(drop) } else { Ok(()) }
    }

    /// Binds both, by as many writes as are needed.
    async fn bind(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<(), Error> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let name = volume.metadata.name.clone().unwrap_or_default();
        let mut volume = volume.clone();
        if let Some(wanted) = plan::refer(&volume, claim) {
            volume = volumes.replace(&name, &PostParams::default(), &wanted).await?;
        }
        if let Some(wanted) = plan::in_phase(&volume, "Bound", time::now()) {
            volume = volumes.replace_status(&name, &PostParams::default(), &wanted).await?;
        }
        let mut claim = claim.clone();
        if let Some(wanted) = plan::point(&claim, &volume) {
            claim = self.write_claim(&wanted).await?;
        }
        match plan::bound(&claim, &volume) {
            Some(wanted) => self.write_claim_status(&wanted).await,
            None => Ok(()),
        }
    }

    async fn write_claim(&self, claim: &PersistentVolumeClaim) -> Result<PersistentVolumeClaim, Error> {
        let key = ObjectKey::of(claim);
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), key.namespace_or_empty());
        Ok(claims.replace(&key.name, &PostParams::default(), claim).await?)
    }

    async fn write_claim_status(&self, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let key = ObjectKey::of(claim);
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), key.namespace_or_empty());
        api::ignore_not_found(claims.replace_status(&key.name, &PostParams::default(), claim).await)?;
        Ok(())
    }
}
