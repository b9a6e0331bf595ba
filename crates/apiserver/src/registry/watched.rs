//! Indexes of objects, made anew at the first question after a change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use base::TaskScope;
use parking_lot::Mutex;

use super::{Registry, Served};
use crate::status::ApiResult;

/// A value made of stored objects. Asking costs one comparison while nothing changes.
pub struct Watched<T> {
    registry: Arc<Registry>,
    name: &'static str,
    read: fn(&Registry) -> ApiResult<T>,
    value: ArcSwap<(u64, T)>,
    /// Counts changes; a value knows how many it has seen.
    changes: Arc<AtomicU64>,
    reading: Mutex<()>,
}

impl<T: Default + Send + Sync + 'static> Watched<T> {
    /// Of what `read` makes of `kinds` in `group`; tasks in `scope` notice their changes. `name` says in the log what
    /// cannot be read.
    pub fn new(
        registry: Arc<Registry>,
        name: &'static str,
        (group, kinds): (&str, &[&str]),
        scope: &TaskScope,
        read: fn(&Registry) -> ApiResult<T>,
    ) -> Self {
        let changes = Arc::new(AtomicU64::new(1));
        for kind in kinds {
            if let Some(served) = registry.stored_resource(group, kind) {
                scope.spawn(notice(registry.clone(), served, changes.clone()));
            }
        }
        Self { registry, name, read, value: ArcSwap::default(), changes, reading: Mutex::default() }
    }

    /// The value as of now: whoever asks while it is read anew waits for the new one. If that fails the old one stays.
    pub fn get(&self) -> Arc<(u64, T)> {
        let current = self.value.load_full();
        if current.0 == self.changes.load(Ordering::Acquire) {
            return current;
        }
        let _reading = self.reading.lock();
        let changes = self.changes.load(Ordering::Acquire);
        let current = self.value.load_full();
        if current.0 == changes {
            return current;
        }
        match (self.read)(&self.registry) {
            Ok(value) => self.value.store(Arc::new((changes, value))),
            Err(error) => tracing::error!(error = %error.message, "{} cannot be read", self.name),
        }
        self.value.load_full()
    }
}

/// Counts every change of the objects of `served`, and one more when changes may have been missed.
async fn notice(registry: Arc<Registry>, served: Arc<Served>, changes: Arc<AtomicU64>) {
    let mut follower = registry.follow(&served);
    while follower.next().await.is_some() {
        changes.fetch_add(1, Ordering::AcqRel);
    }
}
