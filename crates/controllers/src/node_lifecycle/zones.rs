//! Zones: how fast pods are made to leave depends on how many nodes of a zone are in trouble.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;

use super::health::ready_status;
use super::tainting::Eviction;
use crate::Config;

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
const REGION_LABEL: &str = "topology.kubernetes.io/region";
/// So few nodes in trouble never make a zone unhealthy.
const MIN_UNHEALTHY: usize = 2;

/// How a zone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Normal,
    /// Many nodes are not ready.
    Partial,
    /// All are not ready.
    Full,
}

/// The zone of a node.
pub fn zone_of(node: &Node) -> String {
    let label =
        |name: &str| node.metadata.labels.as_ref().and_then(|l| l.get(name)).cloned().unwrap_or_default();
    format!("{}:\u{0}:{}", label(REGION_LABEL), label(ZONE_LABEL))
}

/// How many nodes per second of a zone may be evicted: None for no evictions at all, since no zone works.
pub fn rate(nodes: &[Arc<Node>], zone: &str, config: &Config) -> Option<f64> {
    let mut counts: HashMap<String, (usize, usize)> = HashMap::new();
    for node in nodes {
        let (ready, not_ready) = counts.entry(zone_of(node)).or_default();
        *(if ready_status(node) == "True" { ready } else { not_ready }) += 1;
    }
    let state = |(ready, not_ready): (usize, usize)| {
        let share = not_ready as f64 / (ready + not_ready).max(1) as f64;
        match () {
            () if ready == 0 && not_ready > 0 => State::Full,
            () if not_ready > MIN_UNHEALTHY && share >= config.unhealthy_zone_threshold => State::Partial,
            () => State::Normal,
        }
    };
    if counts.values().all(|c| state(*c) == State::Full) {
        return None;
    }
    let (ready, not_ready) = counts.get(zone).copied().unwrap_or_default();
    Some(match state((ready, not_ready)) {
        State::Normal | State::Full => config.node_eviction_rate,
        State::Partial if ready + not_ready > config.large_cluster_size_threshold => {
            config.secondary_node_eviction_rate
        }
        State::Partial => 0.0,
    })
}

/// When which zone may evict the next node.
#[derive(Debug, Default)]
pub struct Pace {
    next: HashMap<String, Instant>,
}

/// Pause before a zone that may not evict at all is looked at again, if no node changes.
const STANDSTILL: Duration = Duration::from_secs(60);

impl Pace {
    /// Whether a node of `zone` may be evicted at `now`; if later, also when to ask again.
    pub fn ask(&mut self, zone: &str, rate: Option<f64>, now: Instant) -> (Eviction, Option<Duration>) {
        let Some(rate) = rate else { return (Eviction::Off, None) };
        if rate <= 0.0 {
            return (Eviction::Later, Some(STANDSTILL));
        }
        match self.next.get(zone) {
            Some(next) if *next > now => (Eviction::Later, Some(*next - now)),
            _ => {
                self.next.insert(zone.to_owned(), now + Duration::from_secs_f64(1.0 / rate));
                (Eviction::Allowed, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::object;
    use serde_json::json;

    #[test]
    fn rates_follow_the_state_of_zones() {
        let nodes = |zone: &str, ready: usize, not_ready: usize| -> Vec<Arc<Node>> {
            let node = |status: &str| {
                Arc::new(object(
                    json!({"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": zone}},
                    "status": {"conditions": [{"type": "Ready", "status": status}]}}),
                ))
            };
            (0..ready).map(|_| node("True")).chain((0..not_ready).map(|_| node("Unknown"))).collect()
        };
        let config = Config::default();
        for (a, b, expected) in [
            ((3, 1), (3, 0), Some(0.1)),
            ((0, 1), (0, 0), None),
            ((0, 3), (0, 3), None),
            ((0, 3), (3, 0), Some(0.1)),
            ((2, 4), (3, 0), Some(0.0)),
            ((20, 40), (3, 0), Some(0.01)),
        ] {
            let mut all = nodes("a", a.0, a.1);
            all.extend(nodes("b", b.0, b.1));
            let zone = zone_of(&all[0]);
            assert_eq!(rate(&all, &zone, &config), expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn one_node_at_a_time() {
        let mut pace = Pace::default();
        let now = Instant::now();
        assert_eq!(pace.ask("z", Some(0.1), now), (Eviction::Allowed, None));
        assert_eq!(pace.ask("z", Some(0.1), now), (Eviction::Later, Some(Duration::from_secs(10))));
        assert_eq!(pace.ask("z", Some(0.1), now + Duration::from_secs(10)), (Eviction::Allowed, None));
        assert_eq!(pace.ask("z", None, now), (Eviction::Off, None));
    }
}
