//! A cluster of `corten etcd` processes under a mixed load, while members are killed, paused, restarted and replaced:
//! every answer fits one order of events, and every watcher sees every change once.
//!
//! Twenty seconds by default; `ETCD_SOAK_S=600` for as many more.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

#[path = "../../../../crates/raft/tests/sim/linear.rs"]
mod linear;
mod load;
mod members;
mod watchers;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use load::Load;
use members::Members;
use watchers::Watchers;

const DEFAULT_S: u64 = 20;
/// How long members may take to be well again.
const RECOVERY: Duration = Duration::from_secs(60);

fn can_run() -> bool {
    let binary = testkit::corten_binary();
    let there = binary.is_file() && Path::new("/usr/bin/etcdctl").is_file();
    if !there {
        println!("skipped, needs {} and etcdctl", binary.display());
    }
    there
}

fn pick(rng: &mut Rng, from: &[usize]) -> usize {
    from[rng.usize(..from.len())]
}

/// One thing that goes wrong, and its repair.
async fn trouble(members: &mut Members, rng: &mut Rng, round: usize) {
    let one = pick(rng, &members.running());
    let pause = Duration::from_millis(rng.u64(200..2500));
    match round % 6 {
        0 => {
            // The leader, if it can be found.
            let victim = members.leader().unwrap_or(one);
            members.kill(victim);
            tokio::time::sleep(pause).await;
            members.start(victim);
        }
        1 => {
            members.signal(one, libc::SIGSTOP);
            tokio::time::sleep(pause).await;
            members.signal(one, libc::SIGCONT);
        }
        2 => members.replace(one),
        3 => {
            members.stop(one);
            members.start(one);
        }
        4 => {
            if let Some(leader) = members.leader() {
                let other = members.running().into_iter().find(|n| *n != leader).unwrap();
                let id = members.id(other);
                members.etcdctl(&[leader], &["move-leader", &id]);
            }
        }
        _ => {
            // Without a majority nothing is answered, and nothing is answered wrongly.
            let other = members.running().into_iter().find(|n| *n != one).unwrap();
            members.kill(one);
            members.kill(other);
            tokio::time::sleep(pause / 2).await;
            members.start(other);
            members.start(one);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_stale_or_doubled_while_members_fail() {
    if !can_run() {
        return;
    }
    let seconds = std::env::var("ETCD_SOAK_S").ok().and_then(|s| s.parse().ok()).unwrap_or(DEFAULT_S);
    let mut members = Members::start_three();
    members.wait_healthy(RECOVERY);
    let load = Arc::new(Load::new(members.endpoints()));
    let watchers = Watchers::start(&members.endpoints());
    let clients = load.start();
    let mut rng = Rng::with_seed(fastrand::u64(..));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut round = 0;
    while Instant::now() < end {
        trouble(&mut members, &mut rng, round).await;
        round += 1;
        members.wait_healthy(RECOVERY);
        load.set_endpoints(members.endpoints());
        watchers.set_endpoints(&members.endpoints());
        let between = rng.u64(200..1000);
        tokio::time::sleep(Duration::from_millis(between)).await;
    }
    load.stop();
    for client in clients {
        client.await.unwrap();
    }
    members.wait_healthy(RECOVERY);
    let hashes = members.hashes();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "members differ: {hashes:?}");
    let revision = load.last_revision(&members.endpoints()[0]).await;
    watchers.check(revision, RECOVERY).await;
    let (answered, unknown) = load.check();
    println!("{round} faults, {answered} calls answered, {unknown} not, revision {revision}");
    assert!(answered > 50 && round > 2, "{answered} calls and {round} faults prove nothing");
}
