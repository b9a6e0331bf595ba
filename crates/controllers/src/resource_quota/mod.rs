//! Counts what ResourceQuotas limit (upstream's resourcequota controller); refusing what is too much is admission's.

mod replenish;
mod usage;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base::{Quantity, TaskScope};
use client::{Cache, Event, Informer, Kind, ObjectKey, Outcome, WorkQueue, run_workers};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus, Service,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kube::Api;
use kube::api::{DynamicObject, ListParams, PostParams};
use parking_lot::Mutex;

use self::usage::Amounts;
use crate::Error;
use crate::common::discovery::{Found, discover};
use crate::common::watching::watch_keys;
use crate::common::{api, pods, time};
use crate::context::Context;

/// Objects per page when a kind is counted.
const PAGE_SIZE: u32 = 500;
/// Usage is counted anew after this long, come what may (`--resource-quota-sync-period`).
const RESYNC: Duration = Duration::from_secs(300);
/// Kinds that a quota names without `count/`.
const PLAIN_COUNTS: [&str; 4] = ["configmaps", "secrets", "replicationcontrollers", "resourcequotas"];
/// Kinds that are followed in full.
const FOLLOWED: [&str; 3] = ["pods", "services", "persistentvolumeclaims"];

struct Controller {
    client: kube::Client,
    scope: TaskScope,
    quotas: Cache<ResourceQuota>,
    pods: Cache<Pod>,
    services: Cache<Service>,
    claims: Cache<PersistentVolumeClaim>,
    /// Namespaces in which something that is counted went.
    freed: WorkQueue<String>,
    watched: Mutex<HashSet<String>>,
}

/// Starts the controller.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let quotas = context.informers.get::<ResourceQuota>();
    let pods = context.informers.get::<Pod>();
    let services = context.informers.get::<Service>();
    let claims = context.informers.get::<PersistentVolumeClaim>();
    let queue = WorkQueue::new("resource-quota");
    let freed = WorkQueue::new("resource-quota-freed");
    watch_keys(&quotas, &queue);
    watch_namespace(&pods, &freed, |old: &Pod, new: &Pod| {
        let facts = |p: &Pod| (pods::is_finished(p), p.spec.as_ref().map(|s| s.containers.clone()));
        facts(old) != facts(new)
    });
    watch_namespace(&services, &freed, |old: &Service, new: &Service| old.spec != new.spec);
    watch_namespace(&claims, &freed, |old: &PersistentVolumeClaim, new: &PersistentVolumeClaim| {
        (&old.spec, &old.status) != (&new.spec, &new.status)
    });
    quotas.synced().await;
    pods.synced().await;
    services.synced().await;
    claims.synced().await;
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        scope: context.scope.clone(),
        quotas: quotas.cache(),
        pods: pods.cache(),
        services: services.cache(),
        claims: claims.cache(),
        freed: freed.clone(),
        watched: Mutex::default(),
    });
    let (cache, of_freed) = (quotas.cache(), queue.clone());
    run_workers(&context.scope, freed, 1, move |namespace: String| {
        let keys: Vec<ObjectKey> =
            cache.list_namespace(&namespace).iter().map(|q| ObjectKey::of(q.as_ref())).collect();
        keys.into_iter().for_each(|key| of_freed.add(key));
        async { Ok::<_, Error>(Outcome::Done) }
    });
    run_workers(&context.scope, queue, context.workers, move |key: ObjectKey| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    });
    Ok(())
}

fn watch_namespace<K: Kind>(
    objects: &Informer<K>,
    freed: &WorkQueue<String>,
    matters: impl Fn(&K, &K) -> bool + Send + Sync + 'static,
) {
    let freed = freed.clone();
    objects.on_event(move |event| {
        if !matches!(event, Event::Updated { old, new } if !matters(old, new)) {
            freed.add(event.object().meta().namespace.clone().unwrap_or_default());
        }
    });
}

/// The status to write; None if it says the same.
fn plan(quota: &ResourceQuota, used: &Amounts) -> Option<ResourceQuotaStatus> {
    let hard = quota.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default();
    let text = |name: &String| used.get(name).map_or_else(|| "0".to_owned(), Quantity::to_string);
    let wanted: BTreeMap<String, ApiQuantity> =
        hard.keys().map(|name| (name.clone(), ApiQuantity(text(name)))).collect();
    let before = quota.status.clone().unwrap_or_default();
    let same = usage::amounts(before.used.as_ref()) == usage::amounts(Some(&wanted))
        && before.used.as_ref().map_or(0, BTreeMap::len) == wanted.len()
        && before.hard.unwrap_or_default() == hard;
    (!same).then_some(ResourceQuotaStatus { hard: Some(hard), used: Some(wanted) })
}

/// Objects of the kinds that are followed in full.
struct Followed {
    pods: Vec<Arc<Pod>>,
    services: Vec<Arc<Service>>,
    claims: Vec<Arc<PersistentVolumeClaim>>,
}

async fn list_all<K>(client: &kube::Client, namespace: &str) -> Result<Vec<Arc<K>>, Error>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let objects: Api<K> = Api::namespaced(client.clone(), namespace);
    let mut params = ListParams::default().limit(PAGE_SIZE);
    let mut all = Vec::new();
    loop {
        let page = objects.list(&params).await?;
        all.extend(page.items.into_iter().map(Arc::new));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(all),
        }
    }
}

/// What the objects that are followed count for.
fn followed(spec: &ResourceQuotaSpec, objects: &Followed) -> Amounts {
    let now = time::now();
    let mut used = Amounts::new();
    for pod in objects.pods.iter().filter(|pod| usage::in_scopes(spec, pod)) {
        usage::sum(&mut used, usage::of_pod(pod, now));
    }
    if !usage::has_scopes(spec) {
        objects.services.iter().for_each(|service| usage::sum(&mut used, usage::of_service(service)));
    }
    for claim in objects.claims.iter().filter(|claim| usage::claim_in_scopes(spec, claim)) {
        usage::sum(&mut used, usage::of_claim(claim));
    }
    used
}

/// Whether less is used of something that is followed than the quota says.
fn frees(quota: &ResourceQuota, used: &Amounts) -> bool {
    let before = usage::amounts(quota.status.as_ref().and_then(|s| s.used.as_ref()));
    before.iter().any(|(name, before)| {
        counted_kind(name).is_none() && used.get(name).copied().unwrap_or(Quantity::ZERO) < *before
    })
}

/// The `resource.group` that a limit counts objects of, if that is not followed in full.
fn counted_kind(limit: &str) -> Option<&str> {
    let kind = limit.strip_prefix("count/").or_else(|| PLAIN_COUNTS.contains(&limit).then_some(limit))?;
    (!FOLLOWED.contains(&kind)).then_some(kind)
}

impl Controller {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(quota) = self.quotas.get_key(key) else { return Ok(Outcome::Done) };
        let spec = quota.spec.clone().unwrap_or_default();
        let used = followed(&spec, &self.cached(key.namespace_or_empty()));
        if !frees(&quota, &used) {
            return self.write(key, &quota, used).await;
        }
        // What has just been made may not have been heard of here; but it has changed the quota, and so what is read
        // now is right as long as the quota stays as it is.
        let quotas: Api<ResourceQuota> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
        // The controller's role lets it list, but not get.
        let named = ListParams::default().fields(&format!("metadata.name={}", key.name));
        let Some(quota) = quotas.list(&named).await?.items.into_iter().next() else {
            return Ok(Outcome::Done);
        };
        let spec = quota.spec.clone().unwrap_or_default();
        let used = followed(&spec, &self.live(key.namespace_or_empty()).await?);
        self.write(key, &quota, used).await
    }

    /// Counts the kinds that are not followed, and writes the status.
    async fn write(
        &self,
        key: &ObjectKey,
        quota: &ResourceQuota,
        mut used: Amounts,
    ) -> Result<Outcome, Error> {
        let spec = quota.spec.clone().unwrap_or_default();
        let mut counts_others = false;
        if !usage::has_scopes(&spec) {
            for limit in spec.hard.iter().flatten().map(|(name, _)| name) {
                let Some(kind) = counted_kind(limit) else { continue };
                counts_others = true;
                let count = self.count(kind, key.namespace_or_empty()).await?;
                used.insert(limit.clone(), Quantity::from_units(count, base::quantity::Format::DecimalSi));
            }
        }
        if let Some(status) = plan(quota, &used) {
            let quotas: Api<ResourceQuota> = Api::namespaced(self.client.clone(), key.namespace_or_empty());
            let wanted = ResourceQuota { status: Some(status), ..quota.clone() };
            api::ignore_not_found(quotas.replace_status(&key.name, &PostParams::default(), &wanted).await)?;
        }
        Ok(if counts_others { Outcome::RequeueAfter(RESYNC) } else { Outcome::Done })
    }

    fn cached(&self, namespace: &str) -> Followed {
        Followed {
            pods: self.pods.list_namespace(namespace),
            services: self.services.list_namespace(namespace),
            claims: self.claims.list_namespace(namespace),
        }
    }

    async fn live(&self, namespace: &str) -> Result<Followed, Error> {
        Ok(Followed {
            pods: list_all(&self.client, namespace).await?,
            services: list_all(&self.client, namespace).await?,
            claims: list_all(&self.client, namespace).await?,
        })
    }

    /// How many objects of `resource.group` there are in a namespace. A kind that does not exist counts for nothing.
    async fn count(&self, kind: &str, namespace: &str) -> Result<i64, Error> {
        let found = discover(&self.client).await?;
        let Some(resource) = found.resources.into_iter().find(|f| f.namespaced && f.group_resource() == kind)
        else {
            return Ok(0);
        };
        self.follow_deletions(&resource);
        let objects: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource.api_resource());
        let mut params = ListParams::default().limit(PAGE_SIZE);
        let mut count = 0;
        loop {
            let page = objects.list_metadata(&params).await?;
            count += page.items.len() as i64;
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(count),
            }
        }
    }

    fn follow_deletions(&self, resource: &Found) {
        if resource.can(&["list", "watch"]) && self.watched.lock().insert(resource.group_resource()) {
            let watch = replenish::watch_deletions(self.client.clone(), resource.clone(), self.freed.clone());
            self.scope.spawn(watch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;
    use serde_json::json;

    #[test]
    fn the_status_says_what_is_limited() {
        let quota: ResourceQuota =
            object(json!({"metadata": {}, "spec": {"hard": {"pods": "5", "requests.cpu": "1"}}}));
        let used: Amounts = [
            ("pods".to_owned(), Quantity::from_units(2, base::quantity::Format::DecimalSi)),
            ("services".to_owned(), Quantity::ZERO),
        ]
        .into();
        let status = plan(&quota, &used).unwrap();
        assert_eq!(
            json!(status),
            json!({"hard": {"pods": "5", "requests.cpu": "1"}, "used": {"pods": "2", "requests.cpu": "0"}})
        );
        let written = ResourceQuota { status: Some(status), ..quota };
        assert_eq!(plan(&written, &used), None);
        assert!(!frees(&written, &used));
        assert!(frees(&written, &Amounts::new()));
        assert_eq!(counted_kind("count/deployments.apps"), Some("deployments.apps"));
        assert_eq!(counted_kind("secrets"), Some("secrets"));
        assert_eq!(counted_kind("count/pods"), None);
        assert_eq!(counted_kind("requests.cpu"), None);
    }
}
