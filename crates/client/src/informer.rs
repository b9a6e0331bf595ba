//! Shared informers: one list and watch per kind and selector in a process, decoded once, for any number of readers.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use base::TaskScope;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::Cache;
use crate::reflector::Reflector;

/// A kind of which informers keep a copy: every type of `k8s-openapi` that has metadata.
pub trait Kind:
    Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static
{
}

impl<K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static> Kind for K {}

/// Which objects of a kind an informer follows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    /// A label selector; empty for all.
    pub labels: String,
    /// A field selector; empty for all.
    pub fields: String,
    /// One namespace; None for all.
    pub namespace: Option<String>,
}

impl Selector {
    /// Objects of all namespaces that match a field selector.
    pub fn fields(selector: impl Into<String>) -> Self {
        Self { fields: selector.into(), ..Self::default() }
    }

    /// Objects of all namespaces that match a label selector.
    pub fn labels(selector: impl Into<String>) -> Self {
        Self { labels: selector.into(), ..Self::default() }
    }

    /// Objects of one namespace.
    pub fn namespace(namespace: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), ..Self::default() }
    }
}

/// A change of a cached object, seen after the cache has it.
#[derive(Debug, Clone)]
pub enum Event<K> {
    /// It is new to the cache.
    Added(Arc<K>),
    /// It replaced an older state. After a lost watch several changes may come as one.
    Updated {
        /// What the cache held before.
        old: Arc<K>,
        /// What it holds now.
        new: Arc<K>,
    },
    /// It is gone; this is its last known state.
    Deleted(Arc<K>),
}

impl<K> Event<K> {
    /// The newest known state.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Event::Added(object) | Event::Updated { new: object, .. } | Event::Deleted(object) => object,
        }
    }
}

type Handler<K> = Box<dyn Fn(&Event<K>) + Send + Sync>;

/// The informers that run: an `Informer<K>` by its kind and selector.
type Running = HashMap<(TypeId, Selector), Box<dyn Any + Send + Sync>>;

/// Hands out informers that share their watches. Clones share too.
#[derive(Clone)]
pub struct Informers {
    client: kube::Client,
    scope: TaskScope,
    running: Arc<Mutex<Running>>,
}

impl Informers {
    /// Informers that list and watch with `client` until `scope` ends.
    pub fn new(client: kube::Client, scope: &TaskScope) -> Self {
        Self { client, scope: scope.child("informers"), running: Arc::default() }
    }

    /// The informer of all objects of a kind; started at the first call.
    pub fn get<K: Kind>(&self) -> Informer<K> {
        self.get_selected(Selector::default())
    }

    /// The informer of the objects that `selector` selects; started at the first call with it.
    pub fn get_selected<K: Kind>(&self, selector: Selector) -> Informer<K> {
        let mut running = self.running.lock();
        let key = (TypeId::of::<K>(), selector.clone());
        if let Some(informer) = running.get(&key).and_then(|any| any.downcast_ref::<Informer<K>>()) {
            return informer.clone();
        }
        let informer = Informer::<K>::default();
        let reflector = Reflector::new(self.client.clone(), selector, informer.shared.clone());
        self.scope.spawn(reflector.run());
        running.insert(key, Box::new(informer.clone()));
        informer
    }
}

/// A live copy of a kind and the changes to it. Clones share.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K: Kind> Default for Informer<K> {
    fn default() -> Self {
        let shared =
            Shared { cache: Cache::default(), handlers: Mutex::default(), synced: watch::channel(false).0 };
        Self { shared: Arc::new(shared) }
    }
}

impl<K: Kind> Informer<K> {
    /// The objects as last seen.
    pub fn cache(&self) -> Cache<K> {
        self.shared.cache.clone()
    }

    /// Calls `handler` for every change, in order, from the task that reads the watch: it must be quick and not block.
    ///
    /// What is in the cache already is given first, as [`Event::Added`].
    pub fn on_event(&self, handler: impl Fn(&Event<K>) + Send + Sync + 'static) {
        // Under this lock no change is delivered, so that the handler misses none and sees none twice.
        let mut handlers = self.shared.handlers.lock();
        for object in self.shared.cache.list() {
            handler(&Event::Added(object));
        }
        handlers.push(Box::new(handler));
    }

    /// Keeps the objects findable by the values that `values_of` gives; see [`Cache::by_index`].
    /// The first index of a name stays.
    pub fn add_index(
        &self,
        name: &'static str,
        values_of: impl Fn(&K) -> Vec<String> + Send + Sync + 'static,
    ) {
        self.shared.cache.add_index(name, Box::new(values_of));
    }

    /// Waits until the first list is in the cache and was given to all handlers.
    pub async fn synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        // The sender lives in `shared`, which we hold, so waiting cannot fail.
        let _ = synced.wait_for(|done| *done).await;
    }

    /// True once [`Informer::synced`] would return at once.
    pub fn has_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }
}

/// What the reflector fills and the informer's holders read.
pub(crate) struct Shared<K> {
    cache: Cache<K>,
    handlers: Mutex<Vec<Handler<K>>>,
    synced: watch::Sender<bool>,
}

impl<K: Kind> Shared<K> {
    pub(crate) fn cache(&self) -> &Cache<K> {
        &self.cache
    }

    /// Puts `object` into the cache and tells the handlers, unless it is the state they know.
    pub(crate) fn store(&self, object: K) {
        let handlers = self.handlers.lock();
        let object = Arc::new(object);
        let event = match self.cache.insert(object.clone()) {
            None => Event::Added(object),
            Some(old) if same_version(&*old, &*object) => return,
            Some(old) => Event::Updated { old, new: object },
        };
        handlers.iter().for_each(|handle| handle(&event));
    }

    /// Takes the object out of the cache and tells the handlers; `last` is its final state, if known.
    pub(crate) fn delete(&self, key: &crate::ObjectKey, last: Option<K>) {
        let handlers = self.handlers.lock();
        let Some(old) = self.cache.remove(key) else { return };
        let event = Event::Deleted(last.map_or(old, Arc::new));
        handlers.iter().for_each(|handle| handle(&event));
    }

    pub(crate) fn mark_synced(&self) {
        self.synced.send_replace(true);
    }
}

/// A relist finds most objects unchanged, by version and identity.
fn same_version<K: Resource>(a: &K, b: &K) -> bool {
    let (a, b) = (a.meta(), b.meta());
    a.resource_version.is_some() && a.resource_version == b.resource_version && a.uid == b.uid
}

/// The selector of the pods bound to `node`.
impl Informers {
    /// The informer of the pods bound to `node`, as a kubelet needs it.
    pub fn pods_of_node(&self, node: &str) -> Informer<Pod> {
        self.get_selected(Selector::fields(format!("spec.nodeName={node}")))
    }
}
