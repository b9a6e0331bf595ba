//! Collects objects whose owners are gone (upstream's garbage collector), of every kind that can be deleted, custom ones
//! included.

mod collect;
mod graph;
mod monitor;
mod plan;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base::TaskScope;
use client::{Outcome, WorkQueue, run_workers};
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::graph::{Graph, Seen, Uid, Work};
use self::monitor::Monitor;
use crate::Error;
use crate::common::discovery::{Found, discover};
use crate::context::Context;

/// Kinds that nobody owns and that come and go in masses (upstream's default ignored resources).
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];
/// Work begins when every kind was listed, or after this long: a kind that cannot be listed must not stop the others.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);
/// A kind that has just been defined may be served a little later than that is said.
const FOLLOW_UP: Duration = Duration::from_secs(2);
/// Pause after a discovery that failed.
const DISCOVERY_RETRY: Duration = Duration::from_secs(1);

/// What monitors fill and workers use.
pub(crate) struct Shared {
    client: kube::Client,
    graph: Mutex<Graph>,
    queue: WorkQueue<Work>,
    /// By group and kind.
    kinds: Mutex<HashMap<(String, String), Found>>,
    /// Told when there may be other resources than before.
    rediscover: Notify,
    /// Monitors that have not listed yet.
    unlisted: AtomicUsize,
    listed: Notify,
}

/// Starts the collector.
pub(crate) async fn start(context: Context) -> Result<(), Error> {
    let shared = Arc::new(Shared {
        client: context.client.clone(),
        graph: Mutex::default(),
        queue: WorkQueue::new("garbage"),
        kinds: Mutex::default(),
        rediscover: Notify::new(),
        unlisted: AtomicUsize::new(0),
        listed: Notify::new(),
    });
    let mut monitors =
        Monitors { shared: shared.clone(), scope: context.scope.clone(), running: HashMap::new() };
    while let Err(error) = monitors.resync().await {
        tracing::debug!(%error, "discovery failed, trying again");
        tokio::time::sleep(DISCOVERY_RETRY).await;
    }
    if tokio::time::timeout(SYNC_TIMEOUT, shared.all_listed()).await.is_err() {
        tracing::warn!("not every kind could be listed, collecting without them");
    }
    context.scope.spawn(monitors.follow());
    run_workers(&context.scope, shared.queue.clone(), context.workers, move |work: Work| {
        let shared = shared.clone();
        async move {
            match work {
                Work::Delete(uid) => shared.attempt_delete(&uid).await?,
                Work::Orphan(uid) => shared.orphan_dependents(&uid).await?,
            }
            Ok::<_, Error>(Outcome::Done)
        }
    });
    Ok(())
}

impl Shared {
    fn present(&self, seen: Seen) {
        let work = self.graph.lock().observe(seen);
        work.into_iter().for_each(|item| self.queue.add(item));
    }

    fn gone(&self, uid: &str) {
        let work = self.graph.lock().remove(uid);
        work.into_iter().for_each(|item| self.queue.add(item));
    }

    fn uids_of_kind(&self, api_version: &str, kind: &str) -> HashSet<Uid> {
        self.graph.lock().of_kind(api_version, kind).into_iter().collect()
    }

    async fn all_listed(&self) {
        loop {
            let listed = self.listed.notified();
            if self.unlisted.load(Ordering::SeqCst) == 0 {
                return;
            }
            listed.await;
        }
    }
}

/// One monitor per resource.
struct Monitors {
    shared: Arc<Shared>,
    scope: TaskScope,
    running: HashMap<Found, TaskScope>,
}

impl Monitors {
    /// Keeps the monitors equal to the resources until it is dropped.
    async fn follow(mut self) {
        let mut follow_up = false;
        loop {
            let changed = self.shared.rediscover.notified();
            if follow_up {
                follow_up = tokio::time::timeout(FOLLOW_UP, changed).await.is_ok();
            } else {
                changed.await;
                follow_up = true;
            }
            if let Err(error) = self.resync().await {
                tracing::debug!(%error, "discovery failed, trying again");
                follow_up = true;
            }
        }
    }

    /// Starts a monitor for every new resource, and stops those of resources that are gone.
    async fn resync(&mut self) -> Result<(), kube::Error> {
        let found = discover(&self.shared.client).await?;
        let mut kinds = self.shared.kinds.lock();
        let unknown = |f: &Found| found.stale.iter().any(|gv| *gv == format!("{}/{}", f.group, f.version));
        kinds.retain(|_, f| unknown(f));
        kinds.extend(found.resources.iter().map(|f| ((f.group.clone(), f.kind.clone()), f.clone())));
        drop(kinds);
        let collected: HashSet<&Found> = found
            .resources
            .iter()
            .filter(|f| f.can(&["delete", "list", "watch"]))
            .filter(|f| !IGNORED.contains(&(f.group.as_str(), f.resource.as_str())))
            .collect();
        let gone: Vec<Found> =
            self.running.keys().filter(|f| !collected.contains(f) && !unknown(f)).cloned().collect();
        for resource in gone {
            if let Some(scope) = self.running.remove(&resource) {
                scope.cancel();
            }
            for uid in self.shared.uids_of_kind(&resource.api_version(), &resource.kind) {
                self.shared.gone(&uid);
            }
        }
        for resource in collected {
            if !self.running.contains_key(resource) {
                self.start(resource);
            }
        }
        Ok(())
    }

    fn start(&mut self, resource: &Found) {
        let scope = self.scope.child("garbage-monitor");
        self.shared.unlisted.fetch_add(1, Ordering::SeqCst);
        let shared = self.shared.clone();
        let first = std::sync::Once::new();
        let synced = move || {
            first.call_once(|| {
                shared.unlisted.fetch_sub(1, Ordering::SeqCst);
                shared.listed.notify_waiters();
            });
        };
        scope.spawn(Monitor::new(self.shared.clone(), resource).run(synced));
        self.running.insert(resource.clone(), scope);
    }
}
