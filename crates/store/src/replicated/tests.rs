//! Members in one process, over a transport of channels.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use base::system_clock;
use parking_lot::Mutex;

use super::*;
use crate::{Cluster, Delete, Embedded, EventKind, Op, Put};

/// Members by id, and those that nobody hears.
#[derive(Default)]
struct Net {
    members: Mutex<BTreeMap<MemberId, Replicated>>,
    cut: Mutex<HashSet<MemberId>>,
}

struct Link(MemberId, Arc<Net>);

impl Transport for Link {
    fn send(&self, to: MemberId, frame: Bytes) {
        let cut = self.1.cut.lock();
        if cut.contains(&to) || cut.contains(&self.0) {
            return;
        }
        drop(cut);
        let member = self.1.members.lock().get(&to).cloned();
        member.into_iter().for_each(|member| member.deliver(frame.clone()));
    }

    fn members(&self, _: u64, _: MemberId, _: &[Member]) {}
}

struct Cluster3 {
    net: Arc<Net>,
    dir: tempfile::TempDir,
}

fn member(id: u64) -> Member {
    Member {
        id: MemberId(id),
        name: format!("m{id}"),
        peer_urls: vec![format!("http://m{id}")],
        client_urls: vec![format!("http://c{id}")],
        is_learner: false,
    }
}

fn config(dir: &Path, id: u64, start: Start) -> MemberConfig {
    MemberConfig {
        store: Config {
            segment_bytes: 1 << 16,
            checkpoint_bytes: 1 << 17,
            ..Config::new(dir.join(id.to_string()))
        },
        member: member(id),
        cluster_id: 7,
        start,
        force_new_cluster: false,
        heartbeat: Duration::from_millis(20),
        election: Duration::from_millis(200),
    }
}

impl Cluster3 {
    fn new() -> Self {
        let this = Self { net: Arc::default(), dir: tempfile::tempdir().unwrap() };
        (1..=3).for_each(|id| this.start(id, Start::New((1..=3).map(member).collect())));
        this
    }

    fn start(&self, id: u64, start: Start) {
        let link = Link(MemberId(id), self.net.clone());
        let config = config(self.dir.path(), id, start);
        let member = Replicated::open(&config, Arc::new(link), system_clock()).unwrap();
        self.net.members.lock().insert(MemberId(id), member);
    }

    fn get(&self, id: u64) -> Replicated {
        self.net.members.lock()[&MemberId(id)].clone()
    }

    async fn stop(&self, id: u64) {
        let member = self.net.members.lock().remove(&MemberId(id)).unwrap();
        member.close().await.unwrap();
    }

    async fn leader(&self, among: &[u64]) -> u64 {
        until(|| among.iter().copied().find(|id| self.get(*id).status().leader == Some(MemberId(*id)))).await
    }

    fn cut(&self, ids: &[u64]) {
        *self.net.cut.lock() = ids.iter().map(|id| MemberId(*id)).collect();
    }
}

/// Asks again until there is an answer.
async fn until<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = what() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asking).await.expect("nothing came of it")
}

async fn put(store: &Replicated, key: &str, value: &str) -> Result<Revision, Error> {
    let txn = Txn::of(Op::Put(Put::new(key, value.to_owned())));
    store.txn(txn).await.map(|done| done.revision)
}

fn contents(store: &Replicated) -> Vec<String> {
    let read = store.range(&KeyRange::all(), RangeOptions::default()).unwrap();
    read.entries.iter().map(|e| format!("{e:?}={}", e.value.escape_ascii())).collect()
}

async fn same(cluster: &Cluster3, ids: &[u64]) {
    until(|| {
        let all: Vec<_> = ids.iter().map(|id| cluster.get(*id)).collect();
        let first = (all[0].current_revision(), contents(&all[0]));
        all.iter().all(|other| (other.current_revision(), contents(other)) == first).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_take_writes_and_read_what_others_wrote() {
    let cluster = Cluster3::new();
    cluster.leader(&[1, 2, 3]).await;
    for id in 1..=3 {
        put(&cluster.get(id), &format!("k{id}"), "v").await.unwrap();
        for reader in 1..=3 {
            let reader = cluster.get(reader);
            reader.read_barrier().await.unwrap();
            assert!(reader.get(format!("k{id}").as_bytes()).unwrap().is_some());
        }
    }
    let mut watcher = cluster
        .get(2)
        .watch(KeyRange::all(), WatchOptions { start_revision: Revision(2), ..WatchOptions::default() })
        .unwrap();
    for revision in 2..=4 {
        assert_eq!(watcher.next().await.unwrap().revision, Revision(revision));
    }
    cluster.get(3).compact(Revision(3)).await.unwrap();
    cluster.get(1).read_barrier().await.unwrap();
    assert_eq!(cluster.get(1).compact_revision(), Revision(3));
    let refused = cluster.get(2).compact(Revision(2)).await;
    assert!(matches!(refused, Err(Error::Compacted { compact_revision: Revision(3) })), "{refused:?}");
    same(&cluster, &[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_leader_is_replaced_and_comes_back_with_nothing_of_its_own() {
    let cluster = Cluster3::new();
    let first = cluster.leader(&[1, 2, 3]).await;
    put(&cluster.get(first), "a", "1").await.unwrap();
    cluster.cut(&[first]);
    let alone = cluster.get(first);
    let lonely = tokio::spawn(async move { put(&alone, "a", "late").await });
    let others: Vec<u64> = (1..=3).filter(|id| *id != first).collect();
    let second = cluster.leader(&others).await;
    put(&cluster.get(second), "a", "2").await.unwrap();
    // A leader that was cut off never reads what is stale.
    let alone = cluster.get(first);
    assert!(tokio::time::timeout(Duration::from_millis(100), alone.read_barrier()).await.is_err());
    cluster.cut(&[]);
    // What was proposed to itself alone is lost, and so proposed anew: once, and after what came between.
    assert_eq!(lonely.await.unwrap().unwrap(), Revision(4));
    same(&cluster, &[1, 2, 3]).await;
    assert_eq!(&*cluster.get(first).get(b"a").unwrap().unwrap().value, b"late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_far_behind_gets_the_state_and_its_watchers_are_told() {
    let cluster = Cluster3::new();
    let leader = cluster.leader(&[1, 2, 3]).await;
    let slow = if leader == 1 { 2 } else { 1 };
    put(&cluster.get(leader), "a", "1").await.unwrap();
    same(&cluster, &[1, 2, 3]).await;
    cluster.stop(slow).await;
    let big = "x".repeat(1 << 14);
    for n in 0..60 {
        put(&cluster.get(leader), &format!("k{}", n % 20), &big).await.unwrap();
    }
    // Restarted, the others have only what is after their snapshots.
    for id in (1..=3).filter(|id| *id != slow) {
        cluster.get(id).defragment().await.unwrap();
        cluster.stop(id).await;
        cluster.start(id, Start::Join(Vec::new()));
    }
    let again: Vec<u64> = (1..=3).filter(|id| *id != slow).collect();
    cluster.leader(&again).await;
    cluster.start(slow, Start::Join(Vec::new()));
    let mut watcher = cluster.get(slow).watch(KeyRange::single("none"), WatchOptions::default()).unwrap();
    same(&cluster, &[1, 2, 3]).await;
    let ended = watcher.next().await;
    assert!(matches!(ended, Err(Error::Compacted { .. }) | Ok(_)), "{ended:?}");
    cluster.stop(slow).await;
    cluster.start(slow, Start::Join(Vec::new()));
    put(&cluster.get(slow), "b", "2").await.unwrap();
    same(&cluster, &[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    let cluster = Cluster3::new();
    let leader = cluster.leader(&[1, 2, 3]).await;
    put(&cluster.get(leader), "a", "1").await.unwrap();
    let one = cluster.get(1);
    let learner = one.add_learner(vec!["http://m4".to_owned()]).await.unwrap();
    assert!(matches!(one.add_learner(vec!["http://m5".into()]).await, Err(ClusterError::TooManyLearners)));
    assert!(matches!(one.add(vec!["http://m4".into()]).await, Err(ClusterError::PeerUrlExists)));
    let id = learner.id;
    let link = Link(id, cluster.net.clone());
    let mut config = config(cluster.dir.path(), 4, Start::Join(one.member_list().1));
    config.member.id = id;
    let joined = Replicated::open(&config, Arc::new(link), system_clock()).unwrap();
    cluster.net.members.lock().insert(id, joined.clone());
    until(|| joined.get(b"a").unwrap()).await;
    until(|| joined.members().iter().any(|member| member.id == id && member.name == "m4").then_some(()))
        .await;
    while let Err(error) = one.promote(id).await {
        assert!(matches!(error, ClusterError::LearnerNotReady | ClusterError::Unhealthy), "{error}");
    }
    assert!(matches!(one.promote(id).await, Err(ClusterError::MemberNotLearner)));
    joined.read_barrier().await.unwrap();
    assert!(joined.members().iter().all(|member| !member.is_learner));
    one.remove(MemberId(2)).await.unwrap();
    assert!(matches!(one.remove(MemberId(2)).await, Err(ClusterError::MemberNotFound)));
    tokio::time::timeout(Duration::from_secs(20), cluster.get(2).removed()).await.unwrap();
    put(&joined, "a", "2").await.unwrap();
    until(|| (cluster.get(3).get(b"a").unwrap().unwrap().value == "2").then_some(())).await;
    let leader = until(|| joined.status().leader).await;
    let to = if leader == id { MemberId(3) } else { id };
    let leader = cluster.net.members.lock()[&leader].clone();
    leader.move_leader(to).await.unwrap();
    until(|| (joined.status().leader == Some(to)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_outlive_their_leader_and_end_with_their_keys() {
    let cluster = Cluster3::new();
    let leader = cluster.leader(&[1, 2, 3]).await;
    let follower = cluster.get(leader % 3 + 1);
    let long = follower.lease_grant(LeaseId::NONE, 600).await.unwrap();
    let short = follower.lease_grant(LeaseId(77), 1).await.unwrap();
    assert!(matches!(follower.lease_grant(LeaseId(77), 1).await, Err(Error::LeaseExists(_))));
    let hang = |key: &str, id| Txn::of(Op::Put(Put::new(key, "v").with_lease(id)));
    follower.txn(hang("long", long.id)).await.unwrap();
    follower.txn(hang("short", short.id)).await.unwrap();
    cluster.stop(leader).await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let second = cluster.leader(&others).await;
    let follower = cluster.get(others.into_iter().find(|id| *id != second).unwrap());
    assert_eq!(follower.lease_keep_alive(long.id).await.unwrap().ttl_s, 600);
    until(|| follower.get(b"short").unwrap().is_none().then_some(())).await;
    assert!(matches!(follower.lease_status(short.id).await, Err(Error::LeaseNotFound(_))));
    let status = follower.lease_status(long.id).await.unwrap();
    assert_eq!(status.keys, [crate::Key::from("long")]);
    follower.lease_revoke(long.id).await.unwrap();
    assert!(follower.get(b"long").unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_cut_off_prolongs_no_lease() {
    let cluster = Cluster3::new();
    let first = cluster.leader(&[1, 2, 3]).await;
    let lease = cluster.get(first).lease_grant(LeaseId(5), 600).await.unwrap();
    same(&cluster, &[1, 2, 3]).await;
    cluster.cut(&[first]);
    let alone = cluster.get(first);
    let late = tokio::spawn(async move { alone.lease_keep_alive(lease.id).await });
    let others: Vec<u64> = (1..=3).filter(|id| *id != first).collect();
    let second = cluster.leader(&others).await;
    cluster.get(second).lease_revoke(lease.id).await.unwrap();
    cluster.cut(&[]);
    let told = late.await.unwrap();
    assert!(matches!(told, Err(Error::LeaseNotFound(_) | Error::Timeout | Error::NoLeader)), "{told:?}");
}

/// The system's clock, and how far members are ahead of it.
struct Ahead(base::SharedClock, Arc<Mutex<Duration>>);

impl base::Clock for Ahead {
    fn now(&self) -> std::time::SystemTime {
        self.0.now() + *self.1.lock()
    }

    fn instant(&self) -> std::time::Instant {
        self.0.instant() + *self.1.lock()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_cut_off_ends_no_lease_later() {
    let cluster = Cluster3::new();
    let first = cluster.leader(&[1, 2, 3]).await;
    let ahead = Arc::new(Mutex::new(Duration::ZERO));
    // The member that will be ahead is begun anew with such a clock, and leads again.
    cluster.stop(first).await;
    let clock = Arc::new(Ahead(system_clock(), ahead.clone()));
    let link = Link(MemberId(first), cluster.net.clone());
    let config = config(cluster.dir.path(), first, Start::Join(Vec::new()));
    let member = Replicated::open(&config, Arc::new(link), clock).unwrap();
    cluster.net.members.lock().insert(MemberId(first), member.clone());
    same(&cluster, &[1, 2, 3]).await;
    while cluster.leader(&[1, 2, 3]).await != first {
        let leader = cluster.get(cluster.leader(&[1, 2, 3]).await);
        _ = leader.move_leader(MemberId(first)).await;
    }
    let lease = member.lease_grant(LeaseId(5), 600).await.unwrap();
    same(&cluster, &[1, 2, 3]).await;
    cluster.cut(&[first]);
    // It finds the lease's time to be over while it still leads, but cannot say so to anybody.
    *ahead.lock() = Duration::from_secs(700);
    let others: Vec<u64> = (1..=3).filter(|id| *id != first).collect();
    let second = cluster.get(cluster.leader(&others).await);
    second.lease_keep_alive(lease.id).await.unwrap();
    cluster.cut(&[]);
    put(&member, "a", "1").await.unwrap();
    same(&cluster, &[1, 2, 3]).await;
    put(&member, "a", "2").await.unwrap();
    assert_eq!(second.leases().await.unwrap(), [lease.id], "a lease that was kept alive has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_alone_keeps_what_it_answered() {
    let dir = tempfile::tempdir().unwrap();
    let open = |force| {
        let config = config(dir.path(), 1, Start::New(vec![member(1)]));
        let config = MemberConfig { force_new_cluster: force, ..config };
        Replicated::open(&config, Arc::new(NoTransport), system_clock()).unwrap()
    };
    for round in 0..4 {
        let store = open(round == 3);
        assert_eq!(store.current_revision(), Revision(1 + round * 100), "round {round}");
        store.health().unwrap();
        for n in 0..100 {
            put(&store, &format!("k{}", n % 30), &"x".repeat(3000)).await.unwrap();
        }
        assert_eq!(store.read_barrier().await.unwrap(), store.current_revision());
        store.close().await.unwrap();
    }
    let config = Config::new(dir.path().join("1"));
    let refused = Embedded::open(&config, system_clock()).err().unwrap();
    assert!(refused.to_string().contains("member of a cluster"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_store_becomes_the_first_member() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::open(&Config::new(dir.path().join("1")), system_clock()).unwrap();
    embedded.txn(Txn::of(Op::Put(Put::new("a", "1")))).await.unwrap();
    embedded.close().await.unwrap();
    let new = |members| config(dir.path(), 1, Start::New(members));
    let two = Replicated::open(&new(vec![member(1), member(2)]), Arc::new(NoTransport), system_clock());
    assert!(two.err().unwrap().to_string().contains("holds a store already"));
    let store = Replicated::open(&new(vec![member(1)]), Arc::new(NoTransport), system_clock()).unwrap();
    assert_eq!(&*store.get(b"a").unwrap().unwrap().value, b"1");
    let deleted = store.txn(Txn::of(Op::Delete(Delete { range: KeyRange::all() }))).await.unwrap();
    assert_eq!(deleted.revision, Revision(3));
    let mut watcher = store
        .watch(KeyRange::all(), WatchOptions { start_revision: Revision(3), ..WatchOptions::default() })
        .unwrap();
    assert_eq!(watcher.next().await.unwrap().events[0].kind, EventKind::Delete);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_survivor_begins_a_new_cluster() {
    let cluster = Cluster3::new();
    let leader = cluster.leader(&[1, 2, 3]).await;
    put(&cluster.get(leader), "a", "1").await.unwrap();
    same(&cluster, &[1, 2, 3]).await;
    cluster.stop(1).await;
    cluster.stop(2).await;
    let lonely = cluster.get(3);
    until(|| lonely.status().leader.is_none().then_some(())).await;
    assert!(lonely.health().is_err());
    cluster.stop(3).await;
    let config =
        MemberConfig { force_new_cluster: true, ..config(cluster.dir.path(), 3, Start::Join(Vec::new())) };
    let survivor = Replicated::open(&config, Arc::new(NoTransport), system_clock()).unwrap();
    assert_eq!(survivor.members().iter().map(|member| member.id.0).collect::<Vec<_>>(), [3]);
    assert_eq!(&*survivor.get(b"a").unwrap().unwrap().value, b"1");
    put(&survivor, "a", "2").await.unwrap();
    survivor.close().await.unwrap();
}
