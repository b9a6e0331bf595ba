//! Thousands of seeded histories of a cluster in which everything goes wrong: the network loses, doubles, reorders and
//! cuts, clocks run apart, members stop between any two steps of I/O, and come and go.
//!
//! A failing seed is printed; `RAFT_SEED=n` runs that one alone, `RAFT_SEEDS=n` so many of them.

#![allow(clippy::unwrap_used, reason = "a failed call fails the test")]

mod cluster;
mod disk;
mod linear;
mod machine;
mod node;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use cluster::Cluster;

const SEEDS: u64 = 2000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn nothing_that_goes_wrong_breaks_a_promise() {
    if let Some(seed) = number("RAFT_SEED") {
        return Cluster::new(seed).run();
    }
    let seeds = number("RAFT_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let (answered, elections, installs) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (answered, elections, installs) = (&answered, &elections, &installs);
            scope.spawn(move || {
                for seed in (thread..seeds).step_by(threads as usize) {
                    let mut cluster = Cluster::new(seed);
                    if let Err(cause) = catch_unwind(AssertUnwindSafe(|| cluster.run())) {
                        eprintln!("seed {seed} failed; run it again with RAFT_SEED={seed}");
                        std::panic::resume_unwind(cause);
                    }
                    answered.fetch_add(cluster.answered, Ordering::Relaxed);
                    elections.fetch_add(cluster.elections, Ordering::Relaxed);
                    installs.fetch_add(cluster.installs, Ordering::Relaxed);
                }
            });
        }
    });
    let per_seed = |total: AtomicU64| total.into_inner() as f64 / seeds as f64;
    let (answered, elections, installs) = (per_seed(answered), per_seed(elections), per_seed(installs));
    eprintln!("per seed: {answered:.1} calls answered, {elections:.1} elections, {installs:.1} snapshots");
    // A simulation in which nothing happens proves nothing.
    assert!(answered > 10.0 && elections > 2.0 && installs > 0.2);
}

#[test]
fn a_seed_replays_exactly() {
    let run = || {
        let mut cluster = Cluster::new(42);
        cluster.run();
        (
            cluster.answered,
            cluster.elections,
            cluster.nodes.values().map(|n| n.machine.clone()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(run(), run());
}
