//! What users of the store rely on, through its public interface.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::{ManualClock, system_clock};
use bytes::Bytes;
use store::{
    Compare, CompareOp, CompareTarget, Config, Delete, Durability, Embedded, Error, EventKind, HistoryLimits,
    Key, KeyRange, LeaseId, Op, OpResult, Put, RangeOptions, Revision, SnapshotFile, Store, Txn,
    WATCH_BUFFER_BATCHES, WatchOptions, Watcher,
};

fn memory() -> Embedded {
    Embedded::in_memory(system_clock()).unwrap()
}

async fn put(store: &Embedded, key: &str, value: &str) -> Revision {
    store.txn(Txn::of(Op::Put(Put::new(key, value.to_owned())))).await.unwrap().revision
}

async fn delete(store: &Embedded, range: KeyRange) -> Revision {
    store.txn(Txn::of(Op::Delete(Delete { range }))).await.unwrap().revision
}

fn list(store: &Embedded, range: &KeyRange, options: RangeOptions) -> Vec<String> {
    let read = store.range(range, options).unwrap();
    read.entries.iter().map(|e| format!("{}={}", e.key, e.value.escape_ascii())).collect()
}

fn at(revision: Revision) -> RangeOptions {
    RangeOptions { revision, ..RangeOptions::default() }
}

async fn told(watcher: &mut Watcher) -> (Revision, Vec<String>) {
    let batch = tokio::time::timeout(Duration::from_secs(20), watcher.next()).await.unwrap().unwrap();
    let say = |kind, key: &Key, value: &Bytes| match kind {
        EventKind::Put => format!("{key}={}", value.escape_ascii()),
        EventKind::Delete => format!("-{key}"),
    };
    let events = batch.events.iter().map(|e| say(e.kind, &e.entry.key, &e.entry.value)).collect();
    (batch.revision, events)
}

#[tokio::test]
async fn versions_and_revisions_are_those_of_etcd() {
    let store = memory();
    assert_eq!(store.current_revision(), Revision(1));
    assert_eq!(put(&store, "k", "1").await, Revision(2));
    assert_eq!(put(&store, "k", "2").await, Revision(3));
    let entry = store.get(b"k").unwrap().unwrap();
    assert_eq!((entry.create_revision.0, entry.mod_revision.0, entry.version), (2, 3, 2));
    assert_eq!(delete(&store, KeyRange::single("k")).await, Revision(4));
    assert_eq!(delete(&store, KeyRange::single("k")).await, Revision(4), "nothing changed");
    assert_eq!(put(&store, "k", "3").await, Revision(5));
    let entry = store.get(b"k").unwrap().unwrap();
    assert_eq!((entry.create_revision.0, entry.version), (5, 1));
}

#[tokio::test]
async fn conditional_writes_give_what_is_there() {
    let store = memory();
    let made = store.create(Put::new("k", "1")).await.unwrap().unwrap();
    let there = store.create(Put::new("k", "x")).await.unwrap().unwrap_err().unwrap();
    assert!(Arc::ptr_eq(&made, &there));
    let second =
        store.update_if(Put::new("k", "2"), made.mod_revision, Durability::Synced).await.unwrap().unwrap();
    let stale = store.update_if(Put::new("k", "3"), made.mod_revision, Durability::Synced).await.unwrap();
    assert_eq!(stale.unwrap_err().unwrap().value, second.value);
    let stale = store.delete_if("k".into(), made.mod_revision).await.unwrap();
    assert_eq!(stale.unwrap_err().unwrap().mod_revision, second.mod_revision);
    let (revision, gone) = store.delete_if("k".into(), second.mod_revision).await.unwrap().unwrap();
    assert_eq!((revision, gone.mod_revision), (Revision(4), Revision(3)));
    assert!(store.delete_if("k".into(), second.mod_revision).await.unwrap().unwrap_err().is_none());
}

#[tokio::test]
async fn a_transaction_has_one_revision_and_leaves_no_half() {
    let store = memory();
    put(&store, "a", "1").await;
    let nested = Txn {
        // The outer put is not seen by the comparison, but by the read.
        compare: vec![Compare::mod_revision("b", Revision::ZERO)],
        then: vec![Op::Range { range: KeyRange::prefix("b"), options: RangeOptions::default() }],
        ..Txn::default()
    };
    let compare = Compare {
        range: KeyRange::single("a"),
        op: CompareOp::Equal,
        target: CompareTarget::Value(Bytes::from_static(b"1")),
    };
    let txn = Txn {
        compare: vec![compare],
        then: vec![
            Op::Put(Put::new("b", "2")),
            Op::Delete(Delete { range: KeyRange::single("a") }),
            Op::Txn(Box::new(nested)),
        ],
        ..Txn::default()
    };
    let done = store.txn(txn.clone()).await.unwrap();
    assert_eq!((done.revision, done.succeeded), (Revision(3), true));
    let OpResult::Txn(inner) = &done.results[2] else { panic!("{done:?}") };
    assert!(inner.succeeded);
    assert_eq!(inner.entry().unwrap().key.as_bytes(), b"b");
    assert!(!store.txn(txn).await.unwrap().succeeded);

    let refused = [
        vec![Op::Put(Put::new("c", "1")), Op::Put(Put::new("c", "2"))],
        vec![Op::Put(Put::new("c", "1")), Op::Put(Put::new("d", "2").with_lease(LeaseId(77)))],
        vec![Op::Put(Put::new("", "1"))],
        vec![Op::Put(Put::new("c", vec![0; 1_572_864]))],
        vec![Op::Put(Put::new("c", "")); 129],
    ];
    for then in refused {
        store.txn(Txn { then, ..Txn::default() }).await.unwrap_err();
        assert_eq!(store.current_revision(), Revision(3));
        assert!(store.get(b"c").unwrap().is_none());
    }
}

#[tokio::test]
async fn pages_are_of_one_revision() {
    let store = memory();
    for n in 0..10 {
        put(&store, &format!("/p/{n}"), "old").await;
    }
    let range = KeyRange::prefix("/p/");
    let first = store.range(&range, RangeOptions { limit: 4, ..RangeOptions::default() }).unwrap();
    assert_eq!((first.entries.len(), first.more, first.count), (4, true, 10));
    // Enough changes for marks in the history.
    for n in 0..3000 {
        put(&store, &format!("/p/{}", n % 20), "new").await;
    }
    delete(&store, KeyRange::between("/p/5", "/p/7")).await;
    let rest = range.starting_at([first.entries[3].key.as_bytes(), b"\0"].concat());
    assert_eq!(
        list(&store, &rest, at(first.revision)),
        ["/p/4=old", "/p/5=old", "/p/6=old", "/p/7=old", "/p/8=old", "/p/9=old"]
    );
    assert_eq!(list(&store, &KeyRange::single("/p/5"), at(first.revision)), ["/p/5=old"]);
    assert_eq!(list(&store, &KeyRange::single("/p/12"), at(first.revision)), [""; 0]);
    assert!(matches!(store.range(&range, at(Revision(99_999))), Err(Error::FutureRevision { .. })));
    store.compact(Revision(100)).await.unwrap();
    assert!(matches!(
        store.range(&range, at(Revision(99))),
        Err(Error::Compacted { compact_revision: Revision(100) })
    ));
    assert!(store.range(&range, at(Revision(100))).is_ok());
    assert!(matches!(store.compact(Revision(100)).await, Err(Error::Compacted { .. })));
    assert!(matches!(store.compact(Revision(99_999)).await, Err(Error::FutureRevision { .. })));
}

#[tokio::test]
async fn a_watch_is_gapless_from_the_past_into_the_present() {
    let store = memory();
    put(&store, "/a/1", "1").await;
    put(&store, "/b/1", "1").await;
    let options = WatchOptions { start_revision: Revision(2), ..WatchOptions::default() };
    let mut all = store.watch(KeyRange::prefix("/a/"), options).unwrap();
    let mut one = store.watch(KeyRange::single("/a/1"), WatchOptions::default()).unwrap();
    let mut odd = store.watch(KeyRange::between("/a/2", "/a/9"), WatchOptions::default()).unwrap();
    assert_eq!(told(&mut all).await, (Revision(2), vec!["/a/1=1".to_owned()]));
    assert!(all.try_next().unwrap().is_none());
    // A write is answered before it is handed to watchers.
    while all.progress_revision() != Some(Revision(3)) {
        tokio::task::yield_now().await;
    }
    let then = vec![
        Op::Put(Put::new("/a/2", "2")),
        Op::Put(Put::new("/b/2", "2")),
        Op::Delete(Delete { range: KeyRange::single("/a/1") }),
    ];
    store.txn(Txn { then, ..Txn::default() }).await.unwrap();
    assert_eq!(told(&mut all).await, (Revision(4), vec!["/a/2=2".to_owned(), "-/a/1".to_owned()]));
    assert_eq!(told(&mut odd).await, (Revision(4), vec!["/a/2=2".to_owned()]));
    let batch = one.next().await.unwrap();
    let event = &batch.events[0];
    assert_eq!((event.kind, event.entry.mod_revision), (EventKind::Delete, Revision(4)));
    assert_eq!(event.prev.as_ref().unwrap().value, "1");
}

#[tokio::test]
async fn a_slow_watcher_reads_on_from_the_history_until_that_is_gone() {
    let store = memory();
    let range = KeyRange::prefix("/");
    let mut slow = store.watch(range.clone(), WatchOptions::default()).unwrap();
    let writes = WATCH_BUFFER_BATCHES as u64 * 4;
    for n in 0..writes {
        put(&store, "/k", &n.to_string()).await;
    }
    for n in 0..writes {
        assert_eq!(told(&mut slow).await, (Revision(n + 2), vec![format!("/k={n}")]));
    }
    assert!(slow.try_next().unwrap().is_none());
    for n in 0..writes {
        put(&store, "/k", &n.to_string()).await;
    }
    store.compact(store.current_revision()).await.unwrap();
    let ended = loop {
        match slow.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, Error::Compacted { .. }), "{ended}");
    let options = WatchOptions { start_revision: Revision(2), ..WatchOptions::default() };
    assert!(matches!(store.watch(range, options), Err(Error::Compacted { .. })));
}

#[tokio::test]
async fn a_quiet_watch_tells_how_far_it_is() {
    let store = memory();
    let options = WatchOptions { progress: Some(Duration::from_millis(20)), ..WatchOptions::default() };
    let mut watcher = store.watch(KeyRange::prefix("/quiet/"), options).unwrap();
    let revision = put(&store, "/loud/1", "1").await;
    loop {
        let (reached, events) = told(&mut watcher).await;
        assert!(events.is_empty());
        if reached == revision {
            break;
        }
    }
    put(&store, "/quiet/1", "1").await;
    while told(&mut watcher).await.1.is_empty() {}
}

#[tokio::test]
async fn the_history_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let history = HistoryLimits { revisions: 50, ..HistoryLimits::default() };
    let config = Config { history, ..Config::new(dir.path()) };
    let store = Embedded::open(&config, system_clock()).unwrap();
    for n in 0..100 {
        put(&store, "k", &n.to_string()).await;
    }
    assert_eq!(store.compact_revision(), Revision(51));
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_alone_and_in_a_crowd_follow_one_another_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(&Config::new(dir.path()), system_clock()).unwrap();
    let mut watcher = store.watch(KeyRange::prefix("/"), WatchOptions::default()).unwrap();
    let mut expected = Vec::new();
    for round in 0..5 {
        for n in 0..10 {
            put(&store, &format!("/{round}/alone/{n}"), "x").await;
        }
        let crowd = (0..20).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { put(&store, &format!("/{round}/crowd/{n}"), "x").await })
        });
        let mut revisions = Vec::new();
        for write in crowd.collect::<Vec<_>>() {
            revisions.push(write.await.unwrap().0);
        }
        revisions.sort_unstable();
        let first = 2 + round * 30 + 10;
        assert_eq!(revisions, (first..first + 20).collect::<Vec<_>>());
        expected.extend(first - 10..first + 20);
    }
    for revision in expected {
        assert_eq!(told(&mut watcher).await.0, Revision(revision));
    }
    store.close().await.unwrap();
    let lone = store.txn(Txn::of(Op::Put(Put::new("/late", "x")))).await;
    assert!(matches!(lone, Err(Error::Closed)));
    let store = Embedded::open(&Config::new(dir.path()), system_clock()).unwrap();
    assert_eq!(store.range(&KeyRange::all(), RangeOptions::default()).unwrap().entries.len(), 150);
    store.close().await.unwrap();
}

#[tokio::test]
async fn leases_end_with_their_keys_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(SystemTime::now()));
    let store = Embedded::open(&Config::new(dir.path()), clock.clone()).unwrap();
    let lease = store.lease_grant(LeaseId::NONE, 100).await.unwrap().id;
    store.lease_grant(LeaseId(5), 10_000).await.unwrap();
    assert!(matches!(store.lease_grant(LeaseId(5), 1).await, Err(Error::LeaseExists(_))));
    for key in ["a", "b", "c"] {
        store.txn(Txn::of(Op::Put(Put::new(key, "1").with_lease(lease)))).await.unwrap();
    }
    put(&store, "c", "kept").await;
    clock.advance(Duration::from_secs(60));
    assert_eq!(store.lease_status(lease).await.unwrap().ttl_s, 40);
    store.close().await.unwrap();
    assert!(matches!(store.lease_revoke(lease).await, Err(Error::Closed)));

    clock.advance(Duration::from_secs(30));
    let store = Embedded::open(&Config::new(dir.path()), clock.clone()).unwrap();
    let status = store.lease_status(lease).await.unwrap();
    assert_eq!((status.granted_ttl_s, status.ttl_s, status.keys), (100, 10, vec!["a".into(), "b".into()]));
    assert_eq!(store.lease_keep_alive(lease).await.unwrap().ttl_s, 100);
    clock.advance(Duration::from_secs(99));
    put(&store, "d", "1").await;
    assert!(store.get(b"a").unwrap().is_some());
    let mut watcher = store.watch(KeyRange::prefix(""), WatchOptions::default()).unwrap();
    clock.advance(Duration::from_secs(2));
    put(&store, "d", "2").await;
    assert_eq!(told(&mut watcher).await.1, ["-a", "-b"]);
    assert_eq!(store.leases().await.unwrap(), [LeaseId(5)]);
    assert!(matches!(store.lease_keep_alive(lease).await, Err(Error::LeaseNotFound(_))));
    store.lease_revoke(LeaseId(5)).await.unwrap();
    assert_eq!(list(&store, &KeyRange::all(), RangeOptions::default()), ["c=kept", "d=2"]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_directory_has_one_owner_and_keeps_history_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { checkpoint_bytes: 20_000, segment_bytes: 16_384, ..Config::new(dir.path()) };
    let store = Embedded::open(&config, system_clock()).unwrap();
    assert!(store.is_durable());
    assert!(matches!(Embedded::open(&config, system_clock()), Err(Error::Locked(_))));
    let writes = (0..64_u64).map(|client| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0..20 {
                put(&store, &format!("/c/{client}"), &format!("{n}")).await;
            }
        })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap();
    }
    let revision = store.current_revision();
    assert_eq!(revision, Revision(1 + 64 * 20));
    let options = WatchOptions { start_revision: revision.next(), ..WatchOptions::default() };
    let mut watcher = store.watch(KeyRange::all(), options).unwrap();
    store.close().await.unwrap();
    assert!(matches!(watcher.next().await, Err(Error::Closed)));
    assert!(matches!(store.health(), Err(Error::Closed)));

    let store = Embedded::open(&config, system_clock()).unwrap();
    assert_eq!(store.current_revision(), revision, "closed in order: no revision is skipped");
    let all = list(&store, &KeyRange::prefix("/c/"), RangeOptions::default());
    assert_eq!(all.len(), 64);
    assert!(all.iter().all(|entry| entry.ends_with("=19")), "{all:?}");
    assert!(store.watch(KeyRange::all(), options).is_ok(), "a client goes on where it was");
    tokio::time::timeout(Duration::from_secs(5), store.wait_for(revision)).await.unwrap().unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_quota_refuses_growth_and_lets_deletions_through() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { quota_bytes: 1000, ..Config::new(dir.path()) };
    let store = Embedded::open(&config, system_clock()).unwrap();
    put(&store, "a", &"x".repeat(900)).await;
    let refused = store.txn(Txn::of(Op::Put(Put::new("b", vec![0; 200])))).await.unwrap_err();
    assert!(matches!(refused, Error::NoSpace(_)), "{refused}");
    delete(&store, KeyRange::single("a")).await;
    put(&store, "b", &"x".repeat(200)).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_file_becomes_a_store_again() {
    let folder = tempfile::tempdir().unwrap();
    let clock = base::system_clock();
    let store = Embedded::open(&Config::new(folder.path().join("one")), clock.clone()).unwrap();
    for number in 0..300 {
        store.create(Put::new(format!("k{number:03}"), vec![7; 2000])).await.unwrap().unwrap();
    }
    store.set_setting("auth", 0, Bytes::from_static(b"on")).await.unwrap();
    let mut stream = store.snapshot_stream().unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.chunks.recv().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    let name = std::path::Path::new("a.snapshot");
    let file = SnapshotFile::decode(&bytes, name, &*clock).unwrap();
    assert_eq!((file.info().revision, file.info().keys), (Revision(301), 300));
    let config = Config::new(folder.path().join("two"));
    file.restore(&config, &*clock).unwrap();
    assert!(matches!(file.restore(&config, &*clock), Err(Error::Invalid(_))));
    let again = Embedded::open(&config, clock.clone()).unwrap();
    let all = again.range(&KeyRange::all(), RangeOptions::default()).unwrap();
    assert_eq!(all.entries, store.range(&KeyRange::all(), RangeOptions::default()).unwrap().entries);
    assert_eq!((again.current_revision(), again.setting("auth").version), (Revision(301), 1));
    again.create(Put::new("new", "x")).await.unwrap().unwrap();
    again.close().await.unwrap();
    let again = Embedded::open(&config, clock.clone()).unwrap();
    assert_eq!(again.current_revision(), Revision(302));
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    assert!(matches!(SnapshotFile::decode(&bytes, name, &*clock), Err(Error::Corrupt { .. })));
}

#[tokio::test]
async fn a_transaction_reads_the_revision_before_it_without_its_own_writes() {
    let store = memory();
    let at = put(&store, "a", "1").await;
    let options = RangeOptions { revision: at, ..RangeOptions::default() };
    let read = |options| Op::Range { range: KeyRange::all(), options };
    let then = vec![Op::Put(Put::new("b", "2")), read(options), read(RangeOptions::default())];
    let result = store.txn(Txn { then, ..Txn::default() }).await.unwrap();
    let counts = result.results.iter().filter_map(|result| match result {
        OpResult::Range(read) => Some(read.count),
        _ => None,
    });
    assert_eq!(counts.collect::<Vec<_>>(), [1, 2]);
}
