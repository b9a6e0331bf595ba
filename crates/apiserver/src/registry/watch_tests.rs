//! A watch that goes on from a list tells what a later list shows, whatever happened in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use schema::{Catalog, Value, value};

use super::options::{DeleteOptions, ListOptions};
use super::watch::WatchItem;
use super::{Filter, ListRequest, ObjectEvent, Registry, ResourceTable, Served, filter};

const NAMESPACE: &str = "ns";
const LAST: &str = "last";

/// Names and revisions of what is there.
type State = BTreeMap<String, u64>;

fn object(name: &str, on: bool, round: u64) -> Value {
    value!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"on": (if on { "yes" } else { "no" })}},
        "data": {"round": (round.to_string())}})
}

/// Creates, changes or deletes one of a few objects, as `random` says.
async fn step(registry: &Registry, served: &Arc<Served>, random: u64) {
    let name = format!("c{}", random % 5);
    let (on, round) = ((random / 5).is_multiple_of(2), random);
    let own = registry.own();
    if registry.entry(served, NAMESPACE, &name).unwrap().is_none() {
        own.create(served, NAMESPACE, object(&name, on, round)).await.unwrap();
    } else if (random / 10).is_multiple_of(3) {
        own.delete(served, (NAMESPACE, &name), &DeleteOptions::default()).await.unwrap();
    } else {
        let change = |_: Option<&Value>| Ok(object(&name, on, round));
        own.update(served, "", (NAMESPACE, &name), &change).await.unwrap();
    }
}

async fn list(registry: &Registry, served: &Arc<Served>, filter: &Filter) -> (u64, State) {
    let options = ListOptions::default();
    let request = ListRequest { served, namespace: NAMESPACE, filter, options: &options };
    let page = registry.list(&request).await.unwrap();
    let named = |entry: &Arc<store::Entry>| {
        (filter::key_parts(&served.hub, entry).1.to_owned(), entry.mod_revision.0)
    };
    (page.revision, page.entries.iter().map(named).collect())
}

async fn replay(seed: u64) {
    let store = Arc::new(store::Embedded::in_memory(base::system_clock()).unwrap());
    let registry = Registry::new(store, ResourceTable::builtin(Catalog::builtin()), base::system_clock());
    let served = registry.stored_resource("", "configmaps").unwrap();
    let filter = || Filter::parse(&served, Some("on=yes"), None).unwrap();
    let mut random = seed;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    for _ in 0..10 {
        step(&registry, &served, next()).await;
    }
    let (revision, mut state) = list(&registry, &served, &filter()).await;
    for _ in 0..15 {
        step(&registry, &served, next()).await;
    }
    let options = ListOptions { resource_version: revision.to_string(), ..ListOptions::default() };
    let mut watch = registry.watch(&served, NAMESPACE, filter(), &options).await.unwrap();
    for _ in 0..15 {
        step(&registry, &served, next()).await;
    }
    registry.own().create(&served, NAMESPACE, object(LAST, true, 0)).await.unwrap();
    let mut reached = revision;
    while !state.contains_key(LAST) {
        let WatchItem::Event(event) = watch.next().await.unwrap() else { continue };
        let (entry, _, at) = event.parts();
        assert!(at > reached, "seed {seed}: revisions go up");
        reached = at;
        let name = filter::key_parts(&served.hub, entry).1.to_owned();
        let known = match event {
            ObjectEvent::Added(_) => state.insert(name, at).is_none(),
            ObjectEvent::Modified(_) => state.insert(name, at).is_some(),
            ObjectEvent::Deleted(..) => state.remove(&name).is_some(),
        };
        assert!(known, "seed {seed}: an event fits what was there");
    }
    assert_eq!(state, list(&registry, &served, &filter()).await.1, "seed {seed}");
}

#[tokio::test]
async fn a_watch_replays_to_the_list() {
    for seed in 1..=20 {
        replay(seed).await;
    }
}
