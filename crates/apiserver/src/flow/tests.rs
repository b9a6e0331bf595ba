//! Classification by the objects of a default server, and levels under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::UserInfo;
use http::Method;
use schema::Value;

use super::classify;
use super::config::Config;
use super::level::{Level, Limits, Queuing, Refusal};
use crate::request::{Query, RequestInfo};

const SEATS: u32 = 600;

fn defaults() -> Config {
    let all: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../bootstrap/objects.json")).unwrap();
    let of = |kind: &str| -> Vec<Arc<Value>> {
        let all = all.iter().filter(|object| object["kind"] == kind);
        all.map(|object| Arc::new(Value::from(object.clone()))).collect()
    };
    Config::read(&of("FlowSchema"), &of("PriorityLevelConfiguration"), SEATS, None)
}

fn info(method: &Method, path: &str) -> RequestInfo {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    RequestInfo::parse(method, path, &Query::parse(query))
}

#[test]
fn requests_belong_to_the_levels_of_a_default_server() {
    let config = defaults();
    let node = UserInfo::authenticated("system:node:a", &["system:nodes"]);
    let person = UserInfo::authenticated("jane", &[]);
    let master = UserInfo::authenticated("root", &["system:masters"]);
    let controller = UserInfo::authenticated("system:kube-controller-manager", &[]);
    let anybody = UserInfo {
        name: "system:anonymous".to_owned(),
        groups: vec!["system:unauthenticated".to_owned()],
        ..UserInfo::default()
    };
    for (user, path, schema, level) in [
        (&master, "/api/v1/pods", "exempt", "exempt"),
        (&anybody, "/healthz", "probes", "exempt"),
        (&node, "/api/v1/nodes/a/status", "system-node-high", "node-high"),
        (&node, "/api/v1/namespaces/x/pods/p", "system-nodes", "system"),
        (&controller, "/apis/apps/v1/deployments", "kube-controller-manager", "workload-high"),
        (&person, "/api/v1/namespaces/x/pods", "global-default", "global-default"),
        (&anybody, "/api/v1/pods", "global-default", "global-default"),
    ] {
        let info = info(&Method::GET, path);
        let found = classify::find(&config, &info, user);
        assert_eq!((&*found.schema.name, &*found.level.name), (schema, level), "{} {path}", user.name);
    }
    let seats: u32 = config.levels.values().map(|level| level.state.lock().limits.nominal).sum();
    assert!((SEATS..SEATS + 10).contains(&seats), "{seats}");
}

fn level(seats: u32, queuing: Option<Queuing>) -> Arc<Level> {
    let level = Arc::new(Level::new("l", "", false));
    level.configure(Limits { nominal: seats, least: seats, most: seats }, queuing);
    level
}

#[tokio::test]
async fn seats_are_handed_on_and_queues_are_bounded() {
    let schema: Arc<str> = "s".into();
    let narrow = level(1, Some(Queuing { queues: 1, hand: 1, length: 2 }));
    let long = Duration::from_secs(60);
    let first = narrow.acquire(&schema, 1, 1, long).await.unwrap();
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let (level, schema) = (narrow.clone(), schema.clone());
            tokio::spawn(async move { level.acquire(&schema, 1, 1, long).await.is_ok() })
        })
        .collect();
    while narrow.state.lock().queues.waiting() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(narrow.acquire(&schema, 1, 1, long).await.unwrap_err(), Refusal::QueueFull);
    drop(first);
    for one in waiting {
        assert!(one.await.unwrap());
    }
    let state = narrow.state.lock();
    assert_eq!((state.seats_in_use, state.executing, state.queues.waiting()), (0, 0, 0));
}

#[tokio::test]
async fn who_waits_too_long_or_leaves_is_forgotten() {
    let schema: Arc<str> = "s".into();
    let narrow = level(1, Some(Queuing { queues: 1, hand: 1, length: 9 }));
    let held = narrow.acquire(&schema, 1, 1, Duration::ZERO).await.unwrap();
    let late = narrow.acquire(&schema, 1, 1, Duration::from_millis(5)).await;
    assert_eq!(late.unwrap_err(), Refusal::TimeOut);
    {
        let leaving = narrow.acquire(&schema, 1, 1, Duration::from_secs(60));
        tokio::select! { biased; _ = leaving => unreachable!(), () = std::future::ready(()) => {} }
    }
    assert_eq!(narrow.state.lock().queues.waiting(), 0);
    drop(held);
    assert!(narrow.acquire(&schema, 1, 1, Duration::ZERO).await.is_ok());
    let strict = level(1, None);
    let _held = strict.acquire(&schema, 1, 1, Duration::ZERO).await.unwrap();
    let refused = strict.acquire(&schema, 1, 1, Duration::ZERO).await;
    assert_eq!(refused.unwrap_err(), Refusal::ConcurrencyLimit);
}

/// Never more seats are in use than there are, whoever comes and goes; prints what an uncontended request costs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn load_never_exceeds_the_seats() {
    let schema: Arc<str> = "s".into();
    let busy = level(4, Some(Queuing { queues: 16, hand: 4, length: 100 }));
    let in_use = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let tasks: Vec<_> = (0..64_u64)
        .map(|flow| {
            let (level, schema, in_use) = (busy.clone(), schema.clone(), in_use.clone());
            tokio::spawn(async move {
                for i in 0..20_u64 {
                    let seats = 1 + ((flow + i) % 3) as u32;
                    let Ok(permit) = level.acquire(&schema, flow, seats, Duration::from_secs(60)).await
                    else {
                        continue;
                    };
                    let now = in_use.fetch_add(seats, std::sync::atomic::Ordering::SeqCst) + seats;
                    assert!(now <= 4, "{now} seats in use");
                    tokio::task::yield_now().await;
                    in_use.fetch_sub(seats, std::sync::atomic::Ordering::SeqCst);
                    drop(permit);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let left = {
        let state = busy.state.lock();
        (state.seats_in_use, state.queues.waiting())
    };
    assert_eq!(left, (0, 0));
    let config = defaults();
    let user = UserInfo::authenticated("jane", &[]);
    let info = info(&Method::GET, "/api/v1/namespaces/x/pods/p");
    let (count, begin) = (20_000_u32, Instant::now());
    for _ in 0..count {
        let found = classify::find(&config, &info, &user);
        drop(Level::acquire(found.level, &found.schema.name, found.flow(), 1, Duration::ZERO).await.unwrap());
    }
    println!("uncontended: {:?} per request", begin.elapsed() / count);
}
