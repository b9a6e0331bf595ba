//! Distributing endpoints over slices with as few writes as may be, and writing them; shared with mirroring.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::ObjectKey;
use futures::future::join_all;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;

use crate::common::api;
use crate::common::written::Written;

/// Whose slice it is.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Who keeps it.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// A write of a slice.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make it; the server completes its name.
    Create(EndpointSlice),
    /// Replace it.
    Update(EndpointSlice),
    /// Delete it.
    Delete(Arc<EndpointSlice>),
}

/// What all slices of a service have in common.
pub struct Frame<'a> {
    /// Namespace, labels, annotations and generateName.
    pub meta: ObjectMeta,
    /// `IPv4` or `IPv6`.
    pub family: &'a str,
    /// Most endpoints in a slice.
    pub limit: usize,
}

impl Frame<'_> {
    /// A slice with these ports and endpoints.
    pub fn slice(&self, ports: &[EndpointPort], endpoints: Vec<Endpoint>) -> EndpointSlice {
        EndpointSlice {
            metadata: self.meta.clone(),
            address_type: self.family.to_owned(),
            endpoints: Some(endpoints),
            ports: Some(ports.to_vec()),
        }
    }

    /// `existing` with other content.
    fn refit(
        &self,
        existing: &EndpointSlice,
        ports: &[EndpointPort],
        endpoints: Vec<Endpoint>,
    ) -> EndpointSlice {
        let mut slice = existing.clone();
        slice.metadata.labels.clone_from(&self.meta.labels);
        slice.metadata.owner_references.clone_from(&self.meta.owner_references);
        slice.metadata.annotations.clone_from(&self.meta.annotations);
        slice.endpoints = Some(endpoints);
        slice.ports = Some(ports.to_vec());
        slice
    }

    fn is_dressed(&self, existing: &EndpointSlice) -> bool {
        existing.metadata.labels == self.meta.labels
    }
}

/// What distinguishes endpoints of a slice: their addresses and whom they stand for.
fn identity(endpoint: &Endpoint) -> String {
    let mut addresses = endpoint.addresses.clone();
    addresses.sort();
    let target = endpoint.target_ref.as_ref().and_then(|r| r.uid.clone().or_else(|| r.name.clone()));
    format!("{}|{}", addresses.join(","), target.unwrap_or_default())
}

/// Puts `desired` into the slices `existing`, which all have these `ports`: endpoints stay where they are, new ones fill
/// up slices that are written anyway, then the fullest slice with room for the rest, then new slices.
pub fn distribute(
    frame: &Frame<'_>,
    ports: &[EndpointPort],
    desired: Vec<Endpoint>,
    existing: &[Arc<EndpointSlice>],
) -> Vec<Action> {
    let mut waiting: BTreeMap<String, Endpoint> = desired.into_iter().map(|e| (identity(&e), e)).collect();
    let mut update: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    let mut unchanged: Vec<(Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    let mut actions = Vec::new();
    for slice in existing {
        let mut changed = !frame.is_dressed(slice);
        let mut kept = Vec::new();
        for endpoint in slice.endpoints.iter().flatten() {
            match waiting.remove(&identity(endpoint)) {
                Some(wanted) => {
                    changed |= wanted != *endpoint;
                    kept.push(wanted);
                }
                None => changed = true,
            }
        }
        if kept.is_empty() {
            actions.push(Action::Delete(slice.clone()));
        } else if changed {
            update.push((slice.clone(), kept));
        } else {
            unchanged.push((slice.clone(), kept));
        }
    }
    let mut rest: Vec<Endpoint> = waiting.into_values().collect();
    // The fullest first, so that slices fill up.
    update.sort_by_key(|(_, kept)| std::cmp::Reverse(kept.len()));
    for (_, kept) in &mut update {
        let room = frame.limit.saturating_sub(kept.len()).min(rest.len());
        kept.extend(rest.drain(..room));
    }
    if !rest.is_empty() && rest.len() < frame.limit {
        let fits =
            |(_, kept): &&mut (Arc<EndpointSlice>, Vec<Endpoint>)| kept.len() + rest.len() <= frame.limit;
        if let Some((slice, kept)) = unchanged.iter_mut().filter(fits).max_by_key(|(_, kept)| kept.len()) {
            kept.append(&mut rest);
            update.push((slice.clone(), std::mem::take(kept)));
        }
    }
    for (slice, kept) in update {
        actions.push(Action::Update(frame.refit(&slice, ports, kept)));
    }
    while !rest.is_empty() {
        let chunk: Vec<Endpoint> = rest.drain(..frame.limit.min(rest.len())).collect();
        actions.push(Action::Create(frame.slice(ports, chunk)));
    }
    actions
}

/// Turns pairs of a deletion and a creation into one update: fewer writes, and readers never see the gap.
pub fn reuse(actions: Vec<Action>) -> Vec<Action> {
    let mut creates = Vec::new();
    let mut deletes = Vec::new();
    let mut rest = Vec::new();
    for action in actions {
        match action {
            Action::Create(slice) => creates.push(slice),
            Action::Delete(slice) => deletes.push(slice),
            update @ Action::Update(_) => rest.push(update),
        }
    }
    for mut wanted in creates {
        let same_family = |d: &Arc<EndpointSlice>| d.address_type == wanted.address_type;
        match deletes.iter().position(same_family) {
            Some(at) => {
                let reused = deletes.swap_remove(at);
                let fresh = wanted.metadata;
                wanted.metadata = ObjectMeta {
                    labels: fresh.labels,
                    annotations: fresh.annotations,
                    owner_references: fresh.owner_references,
                    ..reused.metadata.clone()
                };
                rest.push(Action::Update(wanted));
            }
            None => rest.push(Action::Create(wanted)),
        }
    }
    rest.extend(deletes.into_iter().map(Action::Delete));
    rest
}

/// True if `reference` is among the owners of a slice.
pub fn is_owned_by(slice: &EndpointSlice, reference: &OwnerReference) -> bool {
    slice.metadata.owner_references.iter().flatten().any(|r| r.uid == reference.uid)
}

/// Writes slices and remembers what it wrote.
pub struct SliceWriter {
    /// Writes with this.
    pub client: kube::Client,
    /// What was written, by service.
    pub written: Arc<Written>,
}

impl SliceWriter {
    /// Carries out `actions` for a service, at the same time; gives the first error.
    pub async fn act(&self, service: &ObjectKey, actions: Vec<Action>) -> Result<(), kube::Error> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), service.namespace_or_empty());
        let writes = actions.into_iter().map(|action| self.write(service, &slices, action));
        join_all(writes).await.into_iter().collect()
    }

    async fn write(
        &self,
        service: &ObjectKey,
        slices: &Api<EndpointSlice>,
        action: Action,
    ) -> Result<(), kube::Error> {
        match action {
            Action::Create(slice) => match slices.create(&PostParams::default(), &slice).await {
                Ok(created) => self.written.wrote(service, &created.metadata),
                Err(error) if api::is_namespace_terminating(&error) => {}
                Err(error) => return Err(error),
            },
            Action::Update(slice) => {
                let name = slice.metadata.name.clone().unwrap_or_default();
                let updated = slices.replace(&name, &PostParams::default(), &slice).await?;
                self.written.wrote(service, &updated.metadata);
            }
            Action::Delete(slice) => {
                let name = slice.metadata.name.clone().unwrap_or_default();
                let options = api::delete_uid(slice.metadata.uid.as_ref());
                api::ignore_not_found(slices.delete(&name, &options).await)?;
                self.written.deleted(service, &slice.metadata);
            }
        }
        Ok(())
    }
}
