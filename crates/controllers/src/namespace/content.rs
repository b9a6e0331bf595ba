//! Deleting what is in a namespace, whatever kinds there are.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PropagationPolicy};
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};

use crate::common::api;
use crate::common::discovery::{Discovered, Found};

/// How long objects with finalizers are waited for, in seconds, if nothing is known (upstream's finalizerEstimateSeconds).
const FINALIZER_ESTIMATE_S: i64 = 15;

/// What deleting a namespace's content came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Why not all kinds are known.
    pub discovery_failure: Option<String>,
    /// What could not be deleted or counted, and why.
    pub failures: Vec<String>,
    /// What is still there, by `resource.group`.
    pub remaining: BTreeMap<String, Remaining>,
}

/// Objects of one resource that are still there.
#[derive(Debug, Default, Clone)]
pub struct Remaining {
    /// How many.
    pub count: usize,
    /// How many have which finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// For how long they may stay, in seconds.
    pub wait_s: Option<i64>,
}

impl Report {
    /// The report when discovery failed: without knowing what there is nothing may be declared empty.
    pub fn undiscovered(error: &kube::Error) -> Self {
        Self { discovery_failure: Some(api::message(error)), ..Self::default() }
    }

    /// All failures of deletions in one text.
    pub fn deletion_failure(&self) -> Option<String> {
        (!self.failures.is_empty()).then(|| {
            format!(
                "Failed to delete all resource types, {} remaining: {}",
                self.failures.len(),
                self.failures.join(", ")
            )
        })
    }

    /// Which objects remain.
    pub fn remaining_text(&self) -> Option<String> {
        let parts: Vec<String> = self
            .remaining
            .iter()
            .map(|(resource, r)| format!("{resource} has {} resource instances", r.count))
            .collect();
        (!parts.is_empty()).then(|| format!("Some resources are remaining: {}", parts.join(", ")))
    }

    /// Which finalizers objects wait for.
    pub fn finalizers_text(&self) -> Option<String> {
        let mut sums: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, count) in self.remaining.values().flat_map(|r| &r.finalizers) {
            *sums.entry(name).or_default() += count;
        }
        let parts: Vec<String> =
            sums.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
        (!parts.is_empty())
            .then(|| format!("Some content in the namespace has finalizers remaining: {}", parts.join(", ")))
    }

    /// An error to try again for.
    pub fn first_error(&self) -> Option<String> {
        self.discovery_failure.clone().or_else(|| self.failures.first().cloned())
    }

    /// How long to wait for what remains; None if nothing does.
    pub fn wait(&self) -> Option<Duration> {
        let longest = self.remaining.values().map(|r| r.wait_s.unwrap_or(FINALIZER_ESTIMATE_S)).max()?;
        Some(Duration::from_secs(longest.max(0) as u64 / 2 + 1))
    }
}

/// Deletes everything in `namespace`: pods first, and the rest when no pod runs that may need it (KEP-5080).
pub async fn delete_all(client: &kube::Client, namespace: &str, found: &Discovered) -> Report {
    let mut report = Report::default();
    if !found.stale.is_empty() {
        let text = format!("unable to retrieve the complete list of server APIs: {}", found.stale.join(", "));
        report.discovery_failure = Some(text);
    }
    let (pods, others): (Vec<&Found>, Vec<&Found>) = found
        .resources
        .iter()
        .filter(|f| f.namespaced && f.can(&["delete"]))
        .partition(|f| f.group.is_empty() && f.resource == "pods");
    for stage in [pods, others] {
        let results = join_all(stage.iter().map(|f| delete_resource(client, namespace, f))).await;
        for (resource, result) in stage.iter().zip(results) {
            match result {
                Ok(remaining) if remaining.count == 0 => {}
                Ok(remaining) => {
                    report.remaining.insert(format!("{}.{}", resource.resource, resource.group), remaining);
                }
                Err(error) => {
                    report.failures.push(format!("{}: {}", resource.group_resource(), api::message(&error)));
                }
            }
        }
        if !report.remaining.is_empty() || !report.failures.is_empty() {
            break;
        }
    }
    report
}

async fn delete_resource(
    client: &kube::Client,
    namespace: &str,
    found: &Found,
) -> Result<Remaining, kube::Error> {
    let resource = found.api_resource();
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    if !found.can(&["list"]) {
        return Ok(Remaining::default());
    }
    // Most kinds have nothing in a namespace: looking is cheaper than deleting nothing.
    let before = objects.list_metadata(&ListParams::default()).await?;
    if before.items.is_empty() {
        return Ok(Remaining::default());
    }
    let options =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    if found.can(&["deletecollection"]) {
        objects.delete_collection(&options, &ListParams::default()).await?;
    } else {
        for object in &before.items {
            api::ignore_not_found(objects.delete(&object.name_any(), &options).await)?;
        }
    }
    let after = objects.list_metadata(&ListParams::default()).await?;
    Ok(remaining(&resource, &after.items))
}

fn remaining(resource: &ApiResource, objects: &[PartialObjectMeta<DynamicObject>]) -> Remaining {
    let mut found = Remaining { count: objects.len(), ..Remaining::default() };
    for object in objects {
        for finalizer in object.metadata.finalizers.iter().flatten() {
            *found.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        if resource.kind == "Pod" && resource.group.is_empty() && object.metadata.finalizers.is_none() {
            found.wait_s = found.wait_s.max(object.metadata.deletion_grace_period_seconds);
        }
    }
    found
}
