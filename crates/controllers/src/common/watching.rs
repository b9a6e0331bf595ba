//! From events of owned objects to the keys of their owners.

use std::sync::Arc;

use super::expectations::Expectations;
use super::owner::{controller_of, index_by_controller, resolve};
use super::selector::Matcher;
use client::{Cache, Event, Informer, Kind, ObjectKey, WorkQueue};

/// How owners of kind `O` follow the objects they control.
pub struct Owners<O> {
    /// The owners.
    pub cache: Cache<O>,
    /// Where their keys go.
    pub queue: WorkQueue<ObjectKey>,
    /// Expectations to fulfil as creations and deletions are seen.
    pub expectations: Option<Arc<Expectations>>,
    /// What an owner selects: for orphans that it may adopt.
    pub selector: fn(&O) -> Matcher,
}

impl<O: Kind + k8s_openapi::Resource> Owners<O> {
    /// The key of the owner that controls `object`, if it is known.
    fn owner_of<K: Kind>(&self, object: &K) -> Option<ObjectKey> {
        let meta = object.meta();
        let owner = resolve(&self.cache, meta.namespace.as_deref(), controller_of(meta)?)?;
        Some(ObjectKey::of(owner.as_ref()))
    }

    fn add_adopters<K: Kind>(&self, orphan: &K) {
        let meta = orphan.meta();
        for owner in self.cache.list_namespace(meta.namespace.as_deref().unwrap_or_default()) {
            let selector = (self.selector)(&owner);
            if !selector.is_empty() && selector.matches(meta.labels.as_ref()) {
                self.queue.add(ObjectKey::of(owner.as_ref()));
            }
        }
    }

    fn gone<K: Kind>(&self, object: &K) {
        if let Some(key) = self.owner_of(object) {
            if let Some(expectations) = &self.expectations {
                expectations.deletion_observed(&key, object.meta().uid.as_deref().unwrap_or_default());
            }
            self.queue.add(key);
        }
    }

    fn added<K: Kind>(&self, object: &K) {
        if object.meta().deletion_timestamp.is_some() {
            // After a restart an object may be seen first when it is leaving already.
            return self.gone(object);
        }
        if controller_of(object.meta()).is_none() {
            return self.add_adopters(object);
        }
        if let Some(key) = self.owner_of(object) {
            if let Some(expectations) = &self.expectations {
                expectations.creation_observed(&key);
            }
            self.queue.add(key);
        }
    }

    fn updated<K: Kind>(&self, old: &K, new: &K) {
        let (was, is) = (old.meta(), new.meta());
        let relabelled = was.labels != is.labels;
        if is.deletion_timestamp.is_some() {
            self.gone(new);
            if relabelled {
                self.gone(old);
            }
            return;
        }
        let moved = controller_of(was) != controller_of(is);
        if moved && let Some(key) = self.owner_of(old) {
            self.queue.add(key);
        }
        if controller_of(is).is_some() {
            if let Some(key) = self.owner_of(new) {
                self.queue.add(key);
            }
        } else if relabelled || moved {
            self.add_adopters(new);
        }
    }

    fn handle<K: Kind>(&self, event: &Event<K>) {
        match event {
            Event::Added(object) => self.added(object.as_ref()),
            Event::Updated { old, new } => self.updated(old.as_ref(), new.as_ref()),
            Event::Deleted(last) => self.gone(last.as_ref()),
        }
    }
}

/// Adds the keys of owners whenever an object they control, or could adopt, changes.
pub fn watch_owned<K: Kind, O: Kind + k8s_openapi::Resource>(objects: &Informer<K>, owners: Owners<O>) {
    index_by_controller(objects);
    objects.on_event(move |event| owners.handle(event));
}

/// Adds the key of every object that appears, changes or goes.
pub fn watch_keys<K: Kind>(objects: &Informer<K>, queue: &WorkQueue<ObjectKey>) {
    let queue = queue.clone();
    objects.on_event(move |event| queue.add(ObjectKey::of(event.object().as_ref())));
}
