//! Operations per second: durable puts by 1 and 64 clients, a range of 10,000 keys, one change to 1,000 watchers; of the
//! embedded store, and of one replicated member.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::system_clock;
use store::replicated::{MemberConfig, NoTransport, Replicated, Start};
use store::{Config, Embedded, KeyRange, Member, MemberId, Op, Put, RangeOptions, Store, Txn, WatchOptions};

/// About the size of a small pod as JSON.
const VALUE_BYTES: usize = 1500;
const KEYS: usize = 10_000;
const WATCHERS: usize = 1000;

fn key(n: usize) -> String {
    format!("/registry/pods/default/pod-{n:06}")
}

async fn put(store: &impl Store, key: String) {
    let done = store.txn(Txn::of(Op::Put(Put::new(key, vec![b'x'; VALUE_BYTES])))).await;
    assert!(done.is_ok(), "{done:?}");
}

async fn puts(store: &(impl Store + Clone), clients: usize, each: usize) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..each {
                    put(&store, key((client * each + n) % KEYS)).await;
                }
            })
        })
        .collect();
    for task in tasks {
        assert!(task.await.is_ok());
    }
    (clients * each) as f64 / start.elapsed().as_secs_f64()
}

async fn range(store: &impl Store) -> Duration {
    for n in 0..KEYS {
        if store.get(key(n).as_bytes()).ok().flatten().is_none() {
            put(store, key(n)).await;
        }
    }
    let (start, times) = (Instant::now(), 100);
    for _ in 0..times {
        let read = store.range(&KeyRange::prefix("/registry/pods/"), RangeOptions::default());
        assert_eq!(read.map(|read| read.entries.len()).unwrap_or(0), KEYS);
    }
    start.elapsed() / times
}

/// From the call of the write until the last watcher has the event.
async fn fan_out(store: &impl Store) -> Duration {
    let times = 20;
    let mut total = Duration::ZERO;
    for round in 0..times {
        let mut tasks = Vec::new();
        for _ in 0..WATCHERS {
            let Ok(mut watcher) = store.watch(KeyRange::prefix("/registry/pods/"), WatchOptions::default())
            else {
                panic!("no watch")
            };
            tasks.push(tokio::spawn(async move { watcher.next().await.is_ok() }));
        }
        tokio::task::yield_now().await;
        let start = Instant::now();
        put(store, key(round)).await;
        for task in tasks {
            assert_eq!(task.await.ok(), Some(true));
        }
        total += start.elapsed();
    }
    total / times as u32
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(std::env::var("STORE_BENCH_DIR").unwrap_or_else(|_| ".".to_owned()))?;
    let config = Config::new(dir.path().join("embedded"));
    println!("embedded");
    let store = Embedded::open(&config, system_clock())?;
    measure(&store).await;
    store.close().await?;
    let start = Instant::now();
    let store = Embedded::open(&config, system_clock())?;
    println!("open:             {:>9.3} ms", start.elapsed().as_secs_f64() * 1e3);
    store.close().await?;
    println!("one replicated member");
    let config = member(Config::new(dir.path().join("replicated")));
    let store = Replicated::open(&config, Arc::new(NoTransport), system_clock())?;
    measure(&store).await;
    store.close().await?;
    let start = Instant::now();
    let store = Replicated::open(&config, Arc::new(NoTransport), system_clock())?;
    println!("open:             {:>9.3} ms", start.elapsed().as_secs_f64() * 1e3);
    store.close().await?;
    let memory = Embedded::in_memory(system_clock())?;
    println!("put in memory, 64:{:>9.0} /s", puts(&memory, 64, 1000).await);
    Ok(())
}

fn member(store: Config) -> MemberConfig {
    let member = Member { id: MemberId(1), name: "one".to_owned(), ..Member::default() };
    MemberConfig {
        store,
        start: Start::New(vec![member.clone()]),
        member,
        cluster_id: 1,
        force_new_cluster: false,
        heartbeat: Duration::from_millis(100),
        election: Duration::from_secs(1),
    }
}

async fn measure(store: &(impl Store + Clone)) {
    println!("put, 1 client:    {:>9.0} /s", puts(store, 1, 2000).await);
    println!("put, 64 clients:  {:>9.0} /s", puts(store, 64, 500).await);
    println!("range of {KEYS}:   {:>9.3} ms", range(store).await.as_secs_f64() * 1e3);
    println!("{WATCHERS} watchers:    {:>9.3} ms", fan_out(store).await.as_secs_f64() * 1e3);
}
