//! The config maps and secrets that pods name: read when needed, watched one by one, so that a node sees no others
//! (upstream `watchBasedManager`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::TaskScope;
use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Volume};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::container::env::Objects;
use crate::pod::{PodUid, spec};

/// How long one watch lasts at most, in seconds.
const WATCH_TIMEOUT_S: u32 = 290;
/// Pause after a watch that failed.
const RETRY: Duration = Duration::from_secs(2);

/// Reads objects from the API.
#[derive(Clone)]
pub struct ApiObjects {
    /// The API.
    pub client: kube::Client,
}

#[async_trait]
impl Objects for ApiObjects {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        api.get_opt(name).await.map_err(|e| format!("get configmap {namespace}/{name}: {e}"))
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        api.get_opt(name).await.map_err(|e| format!("get secret {namespace}/{name}: {e}"))
    }
}

/// A kind of object that pods name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A config map.
    ConfigMap,
    /// A secret.
    Secret,
}

type Key = (ObjectKind, String, String);
type Changed = Arc<dyn Fn(&PodUid) + Send + Sync>;

/// The objects that a pod names in volumes and environments.
pub fn references(pod: &Pod) -> BTreeSet<(ObjectKind, String)> {
    let mut all = BTreeSet::new();
    let mut add = |kind: ObjectKind, name: &str| {
        if !name.is_empty() {
            all.insert((kind, name.to_owned()));
        }
    };
    for volume in spec::spec(pod).volumes.iter().flatten() {
        volume_references(volume, &mut add);
    }
    for container in spec::all_containers(pod) {
        for from in container.container.env_from.iter().flatten() {
            from.config_map_ref.iter().for_each(|r| add(ObjectKind::ConfigMap, &r.name));
            from.secret_ref.iter().for_each(|r| add(ObjectKind::Secret, &r.name));
        }
        for source in container.container.env.iter().flatten().filter_map(|v| v.value_from.as_ref()) {
            source.config_map_key_ref.iter().for_each(|r| add(ObjectKind::ConfigMap, &r.name));
            source.secret_key_ref.iter().for_each(|r| add(ObjectKind::Secret, &r.name));
        }
    }
    all
}

fn volume_references(volume: &Volume, add: &mut impl FnMut(ObjectKind, &str)) {
    if let Some(source) = &volume.config_map {
        add(ObjectKind::ConfigMap, &source.name);
    }
    if let Some(source) = &volume.secret {
        add(ObjectKind::Secret, source.secret_name.as_deref().unwrap_or_default());
    }
    for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
        source.config_map.iter().for_each(|s| add(ObjectKind::ConfigMap, &s.name));
        source.secret.iter().for_each(|s| add(ObjectKind::Secret, &s.name));
    }
}

struct Watched {
    users: Vec<PodUid>,
    /// Ends the watch when dropped.
    _scope: TaskScope,
}

/// Watches the objects that pods name and says which pods a change is for.
#[derive(Clone)]
pub struct References {
    client: kube::Client,
    scope: TaskScope,
    changed: Changed,
    watched: Arc<Mutex<HashMap<Key, Watched>>>,
}

impl References {
    /// Watches nothing yet; `changed` is called for every pod that names a changed object.
    pub fn new(
        client: kube::Client,
        scope: &TaskScope,
        changed: impl Fn(&PodUid) + Send + Sync + 'static,
    ) -> Self {
        Self { client, scope: scope.child("references"), changed: Arc::new(changed), watched: Arc::default() }
    }

    /// Watches the objects of a pod, and no longer those that it does not name any more.
    pub fn follow(&self, pod: &Pod) {
        let uid = spec::uid(pod);
        let namespace = spec::namespace(pod);
        let wanted: BTreeSet<Key> =
            references(pod).into_iter().map(|(kind, name)| (kind, namespace.to_owned(), name)).collect();
        let mut watched = self.watched.lock();
        watched.retain(|key, entry| {
            if !wanted.contains(key) {
                entry.users.retain(|user| *user != uid);
            }
            !entry.users.is_empty()
        });
        for key in wanted {
            let entry = watched.entry(key.clone()).or_insert_with(|| self.watch(key));
            if !entry.users.contains(&uid) {
                entry.users.push(uid.clone());
            }
        }
    }

    /// Watches no longer for a pod.
    pub fn forget(&self, uid: &PodUid) {
        self.watched.lock().retain(|_, entry| {
            entry.users.retain(|user| user != uid);
            !entry.users.is_empty()
        });
    }

    fn watch(&self, key: Key) -> Watched {
        let scope = self.scope.child("object");
        let references = self.clone();
        scope.spawn(async move {
            match key.0 {
                ObjectKind::ConfigMap => references.watch_one::<ConfigMap>(key).await,
                ObjectKind::Secret => references.watch_one::<Secret>(key).await,
            }
        });
        Watched { users: Vec::new(), _scope: scope }
    }

    fn tell(&self, key: &Key) {
        let users = self.watched.lock().get(key).map(|entry| entry.users.clone()).unwrap_or_default();
        users.iter().for_each(|uid| (self.changed)(uid));
    }

    async fn watch_one<K>(&self, key: Key)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + DeserializeOwned
            + Clone
            + std::fmt::Debug
            + Send
            + 'static,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &key.1);
        let selector = format!("metadata.name={}", key.2);
        let mut seen: Option<Option<String>> = None;
        loop {
            if let Err(error) = self.watch_until_end(&api, &selector, &key, &mut seen).await {
                tracing::debug!(name = key.2, namespace = key.1, %error, "watch of an object ended");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// Lists, then watches until the watch ends. `seen` is the last version told, `Some(None)` for an absent object.
    async fn watch_until_end<K>(
        &self,
        api: &Api<K>,
        selector: &str,
        key: &Key,
        seen: &mut Option<Option<String>>,
    ) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug + Send + 'static,
    {
        let list = api.list(&ListParams::default().fields(selector)).await?;
        let now = list.items.first().and_then(|object| object.meta().resource_version.clone());
        // The first list is told too: a pod may have read the object before it, and a change in between is in it.
        if seen.replace(now.clone()) != Some(now) {
            self.tell(key);
        }
        let version = list.metadata.resource_version.unwrap_or_default();
        let params = WatchParams::default().fields(selector).timeout(WATCH_TIMEOUT_S);
        let mut stream = std::pin::pin!(api.watch(&params, &version).await?);
        while let Some(event) = stream.next().await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    *seen = Some(object.meta().resource_version.clone());
                    self.tell(key);
                }
                WatchEvent::Deleted(_) => {
                    *seen = Some(None);
                    self.tell(key);
                }
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) if status.code == 410 => return Ok(()),
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        Ok(())
    }
}
