//! One member on a simulated disk that stops at each step of its I/O, also while it comes back.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

use std::sync::Arc;
use std::time::Duration;

use base::system_clock;

use super::{MemberConfig, NoTransport, Replicated, Start};
use crate::disk::sim::SimDisk;
use crate::{Config, Error, KeyRange, Member, MemberId, Op, Put, RangeOptions, Revision, Store, Txn};

/// Writes of one life: enough for a snapshot or two.
const WRITES: u64 = 90;
/// Steps between two crashes that are tried.
const EVERY: usize = 3;

fn open(disk: &SimDisk) -> Result<Replicated, Error> {
    let member = Member { id: MemberId(1), name: "one".to_owned(), ..Member::default() };
    let config = MemberConfig {
        store: Config { segment_bytes: 2048, checkpoint_bytes: 4000, ..Config::new("") },
        start: Start::New(vec![member.clone()]),
        member,
        cluster_id: 1,
        force_new_cluster: false,
        heartbeat: Duration::from_millis(1),
        election: Duration::from_millis(10),
    };
    Replicated::open_on(Arc::new(disk.clone()), &config, Arc::new(NoTransport), system_clock())
}

/// The newest number written, which is the one before the revision, and how many keys say so.
fn newest(store: &Replicated) -> u64 {
    let read = store.range(&KeyRange::all(), RangeOptions::default()).unwrap();
    let numbers = read.entries.iter().map(|e| u64::from_le_bytes(e.value[..8].try_into().unwrap()));
    let newest = numbers.max().unwrap_or(0);
    assert_eq!(store.current_revision(), Revision(newest + 1), "a write was done twice, or in part");
    newest
}

/// Writes `from` and on; gives the last one answered, and whether one after it was refused.
async fn write(store: &Replicated, from: u64) -> u64 {
    let mut answered = from - 1;
    for n in from..from + WRITES {
        let mut value = n.to_le_bytes().to_vec();
        value.resize(40, 7);
        let txn = Txn::of(Op::Put(Put::new(format!("k{}", n % 7), value)));
        match store.txn(txn).await {
            Ok(done) => assert_eq!(done.revision, Revision(n + 1)),
            Err(_) => break,
        }
        answered = n;
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_crash_loses_or_doubles_an_answered_write() {
    let whole = SimDisk::new();
    let store = open(&whole).unwrap();
    assert_eq!(write(&store, 1).await, WRITES);
    store.close().await.unwrap();
    let mut lives = 0;
    for step in (1..whole.steps()).step_by(EVERY) {
        let disk = SimDisk::new();
        disk.crash_at(step);
        let mut answered = 0;
        if let Ok(store) = open(&disk) {
            answered = write(&store, 1).await;
            _ = store.close().await;
        }
        // It stops once more while it comes back.
        let again = disk.reboot(step);
        again.crash_at(step % 40 + 1);
        if let Ok(store) = open(&again) {
            let found = newest(&store);
            assert!((answered..=answered + 1).contains(&found), "step {step}: {found} of {answered}");
            answered = write(&store, found + 1).await;
            _ = store.close().await;
        }
        let store = open(&again.reboot(step + 1)).unwrap_or_else(|error| panic!("step {step}: {error}"));
        let found = newest(&store);
        assert!((answered..=answered + 1).contains(&found), "step {step}: {found} of {answered}");
        store.close().await.unwrap();
        lives += 1;
    }
    assert!(lives > 50, "{lives}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_out() {
    let disk = SimDisk::new();
    let store = open(&disk).unwrap();
    // Room for one segment only.
    disk.limit_space(Some(3500));
    let answered = tokio::time::timeout(Duration::from_millis(500), write(&store, 1)).await.unwrap_or(0);
    assert!(answered < WRITES);
    disk.limit_space(None);
    tokio::time::timeout(Duration::from_secs(20), async {
        while store.health().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    // What waited for room comes before this.
    let from = store.txn(Txn::default()).await.unwrap().revision.0;
    assert_eq!(write(&store, from).await, from + WRITES - 1);
    store.close().await.unwrap();
    assert_eq!(newest(&open(&disk.reboot(3)).unwrap()), from + WRITES - 1);
}
