//! Indexes of configuration objects, read anew at the first question after a change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use base::TaskScope;
use parking_lot::Mutex;
use store::{KeyRange, WatchOptions};

use crate::registry::Registry;
use crate::status::ApiResult;

/// A value made of stored objects. Asking costs one comparison while nothing changes.
pub struct Watched<T> {
    registry: Arc<Registry>,
    read: fn(&Registry) -> ApiResult<T>,
    value: ArcSwap<(u64, T)>,
    /// Counts changes; a value knows how many it has seen.
    changes: Arc<AtomicU64>,
    reading: Mutex<()>,
}

impl<T: Default + Send + Sync + 'static> Watched<T> {
    /// Of what `read` makes of `kinds` in `group`; tasks in `scope` notice their changes. `with_resources`: the value
    /// depends on which resources are served, too.
    pub fn new(
        registry: Arc<Registry>,
        (group, kinds): (&str, &[&str]),
        with_resources: bool,
        scope: &TaskScope,
        read: fn(&Registry) -> ApiResult<T>,
    ) -> Self {
        let changes = Arc::new(AtomicU64::new(1));
        for kind in kinds {
            if let Some(served) = registry.stored_resource(group, kind) {
                let range = KeyRange::prefix(served.key_prefix(None));
                scope.spawn(notice(registry.clone(), range, changes.clone()));
            }
        }
        if with_resources {
            let mut served = registry.changed.subscribe();
            let changes = changes.clone();
            scope.spawn(async move {
                while served.changed().await.is_ok() {
                    changes.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        Self { registry, read, value: ArcSwap::default(), changes, reading: Mutex::default() }
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
            Err(error) => tracing::error!(error = %error.message, "admission configuration cannot be read"),
        }
        self.value.load_full()
    }
}

/// Counts every change in `range`, and one more when changes may have been missed.
async fn notice(registry: Arc<Registry>, range: KeyRange, changes: Arc<AtomicU64>) {
    loop {
        let Ok(mut watcher) = registry.store.watch(range.clone(), WatchOptions::default()) else { return };
        changes.fetch_add(1, Ordering::AcqRel);
        while watcher.next().await.is_ok() {
            changes.fetch_add(1, Ordering::AcqRel);
        }
        if registry.store.health().is_err() {
            return;
        }
    }
}
