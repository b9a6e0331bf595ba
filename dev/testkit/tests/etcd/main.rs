//! Clusters of `corten etcd` processes under a mixed load of puts, transactions, ranges, watches and leases, while
//! members, their network, disks and clocks fail: every answer fits one order of events, every watcher sees every change
//! once, and every lease lives as long as was promised.
//!
//! With `ETCD_SOAK_S=600` and `ETCD_SOAK_MEMBERS=5` the story on a network goes on for so many seconds; a failure tells
//! the seed of its faults for `ETCD_SOAK_SEED`.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

mod apiserver;
mod disk;
mod faults;
mod leases;
#[path = "../../../../crates/raft/tests/sim/linear.rs"]
mod linear;
mod load;
mod members;
mod network;
mod ranges;
mod repair;
mod watchers;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use faults::{OF_MACHINES, OF_PROCESSES, Trouble, trouble};
use leases::Leases;
use load::Load;
use members::Members;
use network::Network;
use watchers::Watchers;

/// Seconds that a story lasts.
const LOOPBACK_S: u64 = 8;
const NETWORK_S: u64 = 22;
/// How long members may take to be well again.
const RECOVERY: Duration = Duration::from_secs(90);
/// Revisions that a compaction leaves; a watcher may be as far behind and misses nothing.
const KEEP_REVISIONS: i64 = 3000;

/// One story at a time: a member that gets no processor tells little of its faults.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn can_run() -> bool {
    let binary = testkit::corten_binary();
    let there = binary.is_file() && Path::new("/usr/bin/etcdctl").is_file();
    if !there {
        println!("skipped, needs {} and etcdctl", binary.display());
    }
    there
}

fn can_run_on_network() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    let programs = ["ip", "nft", "nsenter"].iter().all(|program| testkit::find_program(program).is_some());
    if !root || !programs {
        println!("skipped, needs root, iproute2, nftables and nsenter");
    }
    root && programs && can_run()
}

/// Runs a story with a runtime of its own; with a network if it is called in one.
fn run(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(story);
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Load and faults for a while, and then all checks.
async fn story(mut members: Members, troubles: &[Trouble], seconds: u64) {
    members.start_all();
    members.wait_healthy(RECOVERY);
    let seed = setting("ETCD_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("{} members, seed {seed}", members.members.len());
    let mut rng = Rng::with_seed(seed);
    let load = Arc::new(Load::new(members.endpoints()));
    let leases = Leases::new(load.clone());
    let watchers = Watchers::start(&members.endpoints());
    let clients: Vec<_> = load.start().into_iter().chain(leases.start()).collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut round, mut left) = (0, Vec::new());
    while Instant::now() < end {
        if left.is_empty() {
            left = troubles.to_vec();
            rng.shuffle(&mut left);
        }
        let kind = left.pop().unwrap();
        println!("{:>4} s: {kind:?}", (seconds as f64 - (end - Instant::now()).as_secs_f64()) as u64);
        trouble(kind, &mut members, &mut rng).await;
        round += 1;
        load.set_endpoints(members.endpoints());
        watchers.set_endpoints(&members.endpoints());
        members.wait_healthy(RECOVERY);
        tokio::time::sleep(Duration::from_millis(rng.u64(200..1000))).await;
    }
    load.stop();
    for client in clients {
        client.await.unwrap();
    }
    leases.wait_gone(RECOVERY).await;
    members.check_same();
    let revision = load.last_revision(&members.endpoints()[0]).await;
    let watched = watchers.check(revision, RECOVERY).await;
    let ranges = load.ranges.check(&watched.seen);
    let (answered, unknown) = load.check();
    let leases = leases.check(&watched);
    println!(
        "{round} faults; {answered} calls answered, {unknown} not; {ranges} ranges, {leases} leases; revision {revision}"
    );
    assert!(answered > 50 && round > 0, "{answered} calls and {round} faults prove nothing");
}

#[test]
fn nothing_is_lost_stale_or_doubled_while_members_fail() {
    if can_run() {
        let _turn = turn();
        run(async { story(Members::new(3, None), &OF_PROCESSES, LOOPBACK_S).await });
    }
}

/// Tells a story of members on machines, on a thread of its own, whose namespace nothing else is in.
fn on_network<S>(count: usize, story: impl FnOnce(Members) -> S + Send + 'static)
where
    S: Future<Output = ()>,
{
    if !can_run_on_network() {
        return;
    }
    let _turn = turn();
    let ended = std::thread::spawn(move || {
        let network = Network::enter();
        run(story(Members::new(count, Some(network))));
    });
    if let Err(panic) = ended.join() {
        std::panic::resume_unwind(panic);
    }
}

fn machines_fail(count: usize, seconds: u64) {
    on_network(count, move |members| async move {
        let mut troubles = [&OF_PROCESSES[..], &OF_MACHINES].concat();
        troubles.retain(|kind| members.has_shim() || !matches!(kind, Trouble::SlowDisk | Trouble::Clock));
        story(members, &troubles, seconds).await;
    });
}

#[test]
fn three_machines_fail_in_every_way() {
    let soaks_others = setting("ETCD_SOAK_MEMBERS").is_some_and(|count| count != 3);
    if !soaks_others {
        machines_fail(3, setting("ETCD_SOAK_S").unwrap_or(NETWORK_S));
    }
}

#[test]
fn five_machines_fail_in_every_way() {
    let soaks_others = setting("ETCD_SOAK_S").is_some() && setting("ETCD_SOAK_MEMBERS") != Some(5);
    if !soaks_others {
        machines_fail(5, setting("ETCD_SOAK_S").unwrap_or(NETWORK_S));
    }
}
