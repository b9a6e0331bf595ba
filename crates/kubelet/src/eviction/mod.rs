//! Pressure on the node, and the pods that have to go because of it (upstream `pkg/kubelet/eviction`).

mod rank;
mod signals;
mod storage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::EventType;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use crate::events::{node_reference, pod_reference};
use crate::node::Pressure;
use crate::pod::{PodView, Registry, spec};
use crate::shared::Shared;
use crate::status::Ending;
use signals::{Breach, Signal};

/// How often signals are read (upstream `monitoringInterval`).
const PERIOD: Duration = Duration::from_secs(10);
/// Seconds that an evicted pod has: a hard threshold leaves no time.
const GRACE_S: i64 = 1;

/// Watches the signals for ever; tells `pressure`, and evicts one pod at a time.
pub async fn watch_pressure(shared: Arc<Shared>, registry: Arc<Registry>, pressure: watch::Sender<Pressure>) {
    registry.sources_seen().await;
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_seen: BTreeMap<Signal, Instant> = BTreeMap::new();
    loop {
        ticks.tick().await;
        storage::evict_over_limits(&shared, &registry).await;
        let breaches = signals::breaches(&shared).await;
        let now = shared.clock.instant();
        for breach in &breaches {
            last_seen.insert(breach.signal, now);
        }
        // A signal that was bad a moment ago still counts, so that the condition does not flap.
        let hold = shared.config.eviction_pressure_transition_period;
        last_seen.retain(|_, seen| now.duration_since(*seen) < hold);
        pressure.send_if_modified(|known| {
            let next = told(&last_seen);
            std::mem::replace(known, next) != next
        });
        if let Some(worst) = breaches.first() {
            relieve(&shared, &registry, worst).await;
        }
    }
}

fn told(last_seen: &BTreeMap<Signal, Instant>) -> Pressure {
    let seen = |test: fn(&Signal) -> bool| last_seen.keys().any(test);
    Pressure {
        memory: seen(|s| *s == Signal::MemoryAvailable),
        disk: seen(Signal::is_disk),
        pids: seen(|s| *s == Signal::PidAvailable),
    }
}

async fn relieve(shared: &Shared, registry: &Registry, breach: &Breach) {
    tracing::warn!(signal = breach.signal.as_str(), available = breach.available, "eviction threshold met");
    let text = format!("Attempting to reclaim {}", breach.signal.resource());
    let about = node_reference(&shared.config.node_name);
    shared.events.event_at(about, EventType::Warning, "EvictionThresholdMet", text);
    if breach.signal.is_disk() && storage::free_images(shared, registry).await {
        return;
    }
    let usage = rank::usage(shared).await;
    let views = registry.list();
    let active: Vec<&PodView> = views.iter().filter(|view| is_active(view)).collect();
    let Some(victim) = rank::victim(&active, &usage, breach.signal) else {
        return tracing::warn!(signal = breach.signal.as_str(), "no pod to evict");
    };
    evict(shared, registry, &victim.pod, breach.message());
}

fn is_active(view: &PodView) -> bool {
    let over = matches!(view.status.phase.as_deref(), Some("Succeeded" | "Failed"));
    !view.stopped && !over && view.pod.metadata.deletion_timestamp.is_none() && !spec::is_critical(&view.pod)
}

/// Ends a pod with status `Evicted`.
fn evict(shared: &Shared, registry: &Registry, pod: &Pod, message: String) {
    tracing::warn!(pod = spec::described(pod), message, "evicting a pod");
    shared.events.event_at(pod_reference(pod), EventType::Warning, "Evicted", message.clone());
    let ending = Ending { reason: "Evicted".to_owned(), message, disruption: true };
    registry.end(&spec::uid(pod), ending, GRACE_S);
}
