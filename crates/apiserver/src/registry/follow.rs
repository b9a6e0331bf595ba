//! Following what is stored without a gap: for tasks of the server that keep something in line with objects.

use std::sync::Arc;

use store::{KeyRange, Store, WatchBatch, WatchOptions, Watcher};

use super::{Registry, Served};

/// What a [`Follower`] tells.
#[derive(Debug, PartialEq, Eq)]
pub enum Followed {
    /// The start, or changes were missed: whatever is there must be read. All that happens after this was told comes
    /// as changes, so what is read now may come once more.
    Anew,
    /// All changes at one revision, with what was there before.
    Changes(WatchBatch),
}

/// Follows a range of the store. It may be dropped at any time, and its futures lose nothing.
pub struct Follower {
    store: Arc<dyn Store>,
    range: KeyRange,
    /// None before the start, and after changes were missed.
    watcher: Option<Watcher>,
}

impl Registry {
    /// Follows all objects of a resource.
    pub fn follow(&self, served: &Served) -> Follower {
        self.follow_range(KeyRange::prefix(served.key_prefix(None)))
    }

    /// Follows one object.
    pub fn follow_one(&self, served: &Served, namespace: &str, name: &str) -> Follower {
        self.follow_range(KeyRange::single(served.key(namespace, name)))
    }

    fn follow_range(&self, range: KeyRange) -> Follower {
        Follower { store: self.store.clone(), range, watcher: None }
    }
}

impl Follower {
    /// What is next: first [`Followed::Anew`]. None once the store has ended.
    pub async fn next(&mut self) -> Option<Followed> {
        loop {
            let Some(watcher) = &mut self.watcher else {
                let options = WatchOptions { prev_entry: true, ..WatchOptions::default() };
                self.watcher = Some(self.store.watch(self.range.clone(), options).ok()?);
                return Some(Followed::Anew);
            };
            match watcher.next().await {
                Ok(batch) => return Some(Followed::Changes(batch)),
                // Slower than the history is long, or the end.
                Err(_) => self.watcher = None,
            }
            self.store.health().ok()?;
        }
    }

    /// Passes over the changes that have come by now: for who reads everything after each change.
    pub fn skip_known(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            // An error is told by the next `next`.
            while let Ok(Some(_)) = watcher.try_next() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use schema::{Catalog, value};

    use super::*;
    use crate::registry::ResourceTable;

    #[tokio::test]
    async fn who_was_too_slow_begins_anew_and_misses_nothing() {
        let store = Arc::new(store::Embedded::in_memory(base::system_clock()).unwrap());
        let table = ResourceTable::builtin(Catalog::builtin());
        let registry = Registry::new(store.clone(), table, base::system_clock());
        let served = registry.stored_resource("", "configmaps").unwrap();
        let make = async |i: usize| {
            let object = value!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": (format!("c{i}")), "namespace": "ns"}});
            registry.own().create(&served, "ns", object).await.unwrap();
        };
        make(0).await;
        let mut follower = registry.follow(&served);
        assert_eq!(follower.next().await, Some(Followed::Anew));
        make(1).await;
        let Some(Followed::Changes(batch)) = follower.next().await else { panic!("a change") };
        assert_eq!(batch.revision, store.current_revision());
        // More than wait for one watcher, and the history ends behind it.
        for i in 2..store::WATCH_BUFFER_BATCHES + 10 {
            make(i).await;
        }
        store.compact(store.current_revision()).await.unwrap();
        let mut told = follower.next().await.unwrap();
        while matches!(told, Followed::Changes(_)) {
            told = follower.next().await.unwrap();
        }
        assert_eq!(told, Followed::Anew);
        make(1000).await;
        make(1001).await;
        follower.skip_known();
        make(1002).await;
        let Some(Followed::Changes(batch)) = follower.next().await else { panic!("a change") };
        assert_eq!(batch.revision, store.current_revision());
    }
}
