//! Clusters that lost members for good, that come from a snapshot, or that have a member far behind or with a broken
//! disk.

use std::process::Command;
use std::time::{Duration, Instant};

use proto::etcd::rpc::kv_client::KvClient;
use proto::etcd::rpc::lease_client::LeaseClient;
use proto::etcd::rpc::watch_client::WatchClient;
use proto::etcd::rpc::watch_request::RequestUnion;
use proto::etcd::rpc::{
    LeaseKeepAliveRequest, PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use testkit::Run;
use tokio_stream::pending;
use tonic::{Code, Request, Streaming};

use crate::disk::Fault;
use crate::members::Members;
use crate::{RECOVERY, on_network};

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(5);

async fn put(endpoint: &str, key: &str, value: Vec<u8>) -> bool {
    let mut client = KvClient::new(etcd::connect(endpoint, &[], None).unwrap());
    let put = PutRequest { key: key.to_owned().into(), value: value.into(), ..PutRequest::default() };
    matches!(tokio::time::timeout(PATIENCE, client.put(put)).await, Ok(Ok(_)))
}

/// Puts at one of the endpoints or the other.
async fn put_somewhere(endpoints: &[String], key: &str, value: Vec<u8>) {
    let end = Instant::now() + RECOVERY;
    for attempt in 0.. {
        if put(&endpoints[attempt % endpoints.len()], key, value.clone()).await {
            return;
        }
        assert!(Instant::now() < end, "{key} could not be written");
    }
}

fn started(members: &mut Members) {
    members.start_all();
    members.wait_healthy(RECOVERY);
}

fn get(members: &Members, n: usize, key: &str) -> String {
    members.until(&[n], &["get", key, "--print-value-only"]).trim().to_owned()
}

/// Adds a member that was just made, and starts it.
fn join(members: &mut Members, by: usize, place: usize) {
    let member = members.fresh("existing");
    let url = format!("--peer-urls={}", member.peer);
    members.until(&[by], &["member", "add", &member.name.clone(), &url]);
    members.members[place] = member;
    members.start(place);
    members.wait_healthy(RECOVERY);
}

#[test]
fn the_last_of_three_begins_a_new_cluster_and_grows_again() {
    on_network(3, async |mut members: Members| {
        started(&mut members);
        members.until(&[1], &["put", "a", "before"]);
        assert_eq!(get(&members, 0, "a"), "before");
        (0..3).for_each(|n| members.kill(n));
        members.members[0].extra = vec!["--force-new-cluster".to_owned()];
        members.start(0);
        members.wait_healthy(RECOVERY);
        assert_eq!(get(&members, 0, "a"), "before");
        assert_eq!(members.until(&[0], &["member", "list"]).lines().count(), 1);
        members.until(&[0], &["put", "b", "alone"]);
        // Without the flag it stays what it became.
        members.kill(0);
        members.start(0);
        members.wait_healthy(RECOVERY);
        join(&mut members, 0, 1);
        join(&mut members, 0, 2);
        members.until(&[2], &["put", "c", "three"]);
        for n in 0..3 {
            assert_eq!(["a", "b", "c"].map(|key| get(&members, n, key)), ["before", "alone", "three"]);
        }
        members.check_same();
    });
}

#[test]
fn members_restored_from_one_snapshot_are_a_cluster() {
    on_network(3, async |mut members: Members| {
        started(&mut members);
        members.until(&[1], &["put", "a", "1"]);
        assert_eq!(get(&members, 0, "a"), "1");
        let file = members.dir.path().join("backup.db");
        let corten = testkit::corten_binary();
        let endpoint = members.members[0].client.clone();
        let words = ["etcd", "snapshot", "save"].map(str::to_owned);
        let save = || Command::new(&corten);
        let saved = save().args(words).arg(&file).args(["--endpoints", &endpoint]).output().unwrap();
        assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
        members.until(&[1], &["put", "a", "2"]);
        for n in 0..3 {
            members.kill(n);
            members.members[n] = members.fresh("new");
        }
        let all = members.initial_cluster();
        for member in &members.members {
            let restored = Command::new(&corten)
                .args(["etcd", "snapshot", "restore"])
                .arg(&file)
                .args(["--name", &member.name, "--initial-cluster", &all])
                .args(["--initial-advertise-peer-urls", &member.peer, "--initial-cluster-token", "again"])
                .arg("--data-dir")
                .arg(&member.data_dir)
                .output()
                .unwrap();
            assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        }
        started(&mut members);
        (0..3).for_each(|n| assert_eq!(get(&members, n, "a"), "1"));
        assert_eq!(members.until(&[0], &["member", "list"]).lines().count(), 3);
        members.until(&[2], &["put", "a", "3"]);
        (0..3).for_each(|n| assert_eq!(get(&members, n, "a"), "3"));
        members.check_same();
    });
}

#[test]
fn members_far_behind_are_sent_the_state() {
    on_network(3, async |mut members: Members| {
        started(&mut members);
        let behind = 2;
        members.kill(behind);
        let endpoints: Vec<String> = members.endpoints()[..2].to_vec();
        // More than the log keeps in memory.
        for n in 0..72 {
            put_somewhere(&endpoints, &format!("k{}", n % 20), vec![b'x'; 1 << 20]).await;
        }
        members.start(behind);
        members.wait_healthy(RECOVERY);
        members.check_same();
        let log = std::fs::read_to_string(members.dir.path().join("m3.log")).unwrap();
        assert!(log.contains("took the leader's whole state"), "{log}");
        members.replace(0);
        members.wait_healthy(RECOVERY);
        members.check_same();
    });
}

#[test]
fn a_learner_answers_what_upstream_lets_it() {
    on_network(3, async |mut members: Members| {
        members.start(0);
        members.start(1);
        // The third voter is never started; its place is the learner's.
        members.wait_healthy(RECOVERY);
        let third = members.until(&[0], &["member", "list"]);
        let third = third.lines().find(|line| line.contains(&members.members[2].peer)).unwrap();
        let id = third.split(", ").next().unwrap().to_owned();
        members.until(&[0], &["member", "remove", &id]);
        members.until(&[0], &["put", "a", "1"]);
        let learner = members.fresh("existing");
        let url = format!("--peer-urls={}", learner.peer);
        members.until(&[0], &["member", "add", &learner.name.clone(), "--learner", &url]);
        members.members[2] = learner;
        members.start(2);
        testkit::wait_until("the learner has what the others have", || {
            let output = members.etcdctl(&[2], &["get", "a", "--consistency=s", "--print-value-only"]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.trim() == "1" {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&output.stderr).into_owned())
            }
        });
        let commands: [&[&str]; 5] = [
            &["get", "a"],
            &["put", "a", "2"],
            &["lease", "grant", "10"],
            &["member", "list"],
            &["compact", "1"],
        ];
        for command in commands {
            let why = members.refused(2, command);
            assert!(why.contains("rpc not supported for learner"), "{command:?}: {why}");
        }
        // etcdctl would ask for a watch again and again.
        let mut client = WatchClient::new(etcd::connect(&members.members[2].client, &[], None).unwrap());
        let refused = client.watch(pending()).await.unwrap_err();
        assert_eq!(refused.message(), "etcdserver: rpc not supported for learner");
        let id = members.id(2);
        members.until(&[0], &["member", "promote", &id]);
        members.wait_healthy(RECOVERY);
        members.until(&[2], &["put", "a", "2"]);
        members.check_same();
    });
}

fn wants_leader<T>(message: T, wants: bool) -> Request<T> {
    let mut request = Request::new(message);
    if wants {
        request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    }
    request
}

async fn watch(endpoint: &str, wants: bool) -> Streaming<WatchResponse> {
    let mut client = WatchClient::new(etcd::connect(endpoint, &[], None).unwrap());
    let create = WatchCreateRequest { key: b"a".to_vec().into(), ..WatchCreateRequest::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let end = Instant::now() + RECOVERY;
    loop {
        let requests = tokio_stream::StreamExt::chain(tokio_stream::iter([create.clone()]), pending());
        // There may be an election just now.
        match client.watch(wants_leader(requests, wants)).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                assert!(stream.message().await.unwrap().unwrap().created);
                return stream;
            }
            Err(status) => assert!(Instant::now() < end, "{status}"),
        }
    }
}

#[test]
fn streams_that_want_a_leader_end_without_one() {
    on_network(3, async |mut members: Members| {
        started(&mut members);
        let endpoint = members.members[0].client.clone();
        let (mut wanting, mut patient) = (watch(&endpoint, true).await, watch(&endpoint, false).await);
        let mut client = LeaseClient::new(etcd::connect(&endpoint, &[], None).unwrap());
        let ask = LeaseKeepAliveRequest { id: 1 };
        let asks = tokio_stream::StreamExt::chain(tokio_stream::iter([ask]), pending());
        let mut lease = client.lease_keep_alive(wants_leader(asks, true)).await.unwrap().into_inner();
        assert_eq!(lease.message().await.unwrap().unwrap().ttl, 0);
        members.kill(1);
        members.kill(2);
        let ends = async { (wanting.message().await.unwrap_err(), lease.message().await.unwrap_err()) };
        let (watch, lease) = tokio::time::timeout(RECOVERY, ends).await.unwrap();
        for status in [watch, lease] {
            assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
        }
        members.start(1);
        members.start(2);
        members.wait_healthy(RECOVERY);
        members.until(&[1], &["put", "a", "1"]);
        let told = tokio::time::timeout(RECOVERY, patient.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(told.events.len(), 1, "{told:?}");
    });
}

/// A small file system; gone when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(dir: &std::path::Path, size: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let dir = dir.to_owned();
        Run::new(&["mount", "-t", "tmpfs", "-o", size, "none", dir.to_str().unwrap()]).output().ok();
        Self(dir)
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,{size}");
        Run::new(&["mount", "-o", &options, self.0.to_str().unwrap()]).output().ok();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = Run::new(&["umount", "--lazy", self.0.to_str().unwrap()]).output();
    }
}

/// Whether a member complains that it has no space.
fn says_full(endpoint: &str) -> bool {
    let health = Run::new(&["curl", "--silent", "--max-time", "10", &format!("{endpoint}/health")]);
    let told = health.output().stdout;
    told.contains("false") && told.contains("space")
}

/// Makes a member lead.
fn lead(members: &Members, n: usize) {
    let id = members.id(n);
    testkit::wait_until("the member leads", || {
        let Some(leader) = members.leader() else { return Err("nobody leads".to_owned()) };
        if leader == n {
            return Ok(());
        }
        let asked = members.etcdctl(&[leader], &["move-leader", &id]);
        Err(String::from_utf8_lossy(&asked.stderr).into_owned())
    });
}

#[test]
fn a_full_disk_costs_a_member_its_part_and_nothing_else() {
    on_network(3, async |mut members: Members| {
        let full = 0;
        let disk = SmallDisk::mount(&members.members[full].data_dir, "size=40m");
        started(&mut members);
        lead(&members, full);
        let others: Vec<String> = members.endpoints()[1..].to_vec();
        let mut keys = 0;
        let end = Instant::now() + RECOVERY;
        while !says_full(&members.members[full].client) {
            for _ in 0..10 {
                put_somewhere(&others, &format!("k{keys}"), vec![b'x'; 300_000]).await;
                keys += 1;
            }
            assert!(Instant::now() < end, "the disk does not fill up");
        }
        // The others go on, and what they answer stays.
        put_somewhere(&others, "after", b"full".to_vec()).await;
        assert_ne!(members.leader(), Some(full));
        assert!(!members.etcdctl(&[full], &["endpoint", "health"]).status.success());
        disk.grow("size=1g");
        members.wait_healthy(RECOVERY);
        members.check_same();
        assert_eq!(get(&members, full, "after"), "full");
        let kept = members.until(&[full], &["get", "k", "--prefix", "--keys-only"]);
        assert_eq!(kept.split_whitespace().count(), keys);
        members.stop(full);
        drop(disk);
    });
}

#[test]
fn a_broken_disk_makes_a_member_step_down() {
    on_network(3, async |mut members: Members| {
        if !members.has_shim() {
            return println!("skipped, needs cc and a binary that loads libraries");
        }
        started(&mut members);
        lead(&members, 0);
        members.until(&[1], &["put", "a", "1"]);
        members.members[0].faults.set(Fault::SyncErrno, libc::EIO.into());
        let others: Vec<String> = members.endpoints()[1..].to_vec();
        put_somewhere(&others, "a", b"2".to_vec()).await;
        testkit::wait_until("another leads", || match members.leader() {
            Some(leader) if leader != 0 => Ok(()),
            other => Err(format!("{other:?} leads")),
        });
        // What it has can be read, what all have cannot.
        let mut client = KvClient::new(etcd::connect(&members.members[0].client, &[], None).unwrap());
        let range = |serializable| RangeRequest {
            key: b"a".to_vec().into(),
            serializable,
            ..RangeRequest::default()
        };
        assert!(client.range(range(true)).await.unwrap().into_inner().count == 1);
        assert!(client.range(range(false)).await.is_err());
        assert!(!members.etcdctl(&[0], &["endpoint", "health"]).status.success());
        members.kill(0);
        members.heal();
        members.start(0);
        members.wait_healthy(RECOVERY);
        assert_eq!(get(&members, 0, "a"), "2");
        members.check_same();
    });
}
