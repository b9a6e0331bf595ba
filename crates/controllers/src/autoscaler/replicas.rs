//! From usage to a number of replicas (upstream's ReplicaCalculator).

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Quantity;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::common::pods;

/// CPU of a pod that has just started says nothing (`--horizontal-pod-autoscaler-cpu-initialization-period`).
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_secs(300);
/// A pod unready since so soon after its start was never ready
/// (`--horizontal-pod-autoscaler-initial-readiness-delay`).
const INITIAL_READINESS_DELAY: SignedDuration = SignedDuration::from_secs(30);

/// What a pod used, in thousandths.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When it was measured.
    pub at: Timestamp,
    /// Over how long.
    pub window: SignedDuration,
    /// How much.
    pub milli: i64,
}

/// What a metric asks for.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// Percent of what the pods request.
    Utilization(i32),
    /// Thousandths per pod.
    Average(i64),
}

/// The answer of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    /// Replicas that it asks for.
    pub replicas: i32,
    /// Percent of the requests that is used, for utilization.
    pub utilization: Option<i32>,
    /// Thousandths that a pod uses on average.
    pub average_milli: i64,
}

/// Which resource is measured, of which container or of all.
#[derive(Debug, Clone, Copy)]
pub struct What<'a> {
    /// `cpu`, `memory`.
    pub resource: &'a str,
    /// One container.
    pub container: Option<&'a str>,
}

struct Groups<'a> {
    ready: usize,
    unready: Vec<&'a Arc<Pod>>,
    missing: Vec<&'a Arc<Pod>>,
    ignored: Vec<&'a Arc<Pod>>,
}

fn group<'a>(
    pods: &'a [Arc<Pod>],
    samples: &BTreeMap<String, Sample>,
    what: What<'_>,
    now: Timestamp,
) -> Groups<'a> {
    let mut groups = Groups { ready: 0, unready: Vec::new(), missing: Vec::new(), ignored: Vec::new() };
    for pod in pods {
        if pod.metadata.deletion_timestamp.is_some() || pods::phase(pod) == "Failed" {
            groups.ignored.push(pod);
        } else if pods::phase(pod) == "Pending" {
            groups.unready.push(pod);
        } else {
            match samples.get(pods::name(pod)) {
                None => groups.missing.push(pod),
                Some(sample) if what.resource == "cpu" && says_nothing(pod, sample, now) => {
                    groups.unready.push(pod)
                }
                Some(_) => groups.ready += 1,
            }
        }
    }
    groups
}

/// True if the CPU of a pod is that of its start.
fn says_nothing(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
    let ready = pods::condition(pod, "Ready");
    let changed = ready.and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
    let (Some(started), Some(ready), Some(changed)) = (started, ready, changed) else { return true };
    let unready = ready.status == "False";
    if now.duration_since(started) < CPU_INITIALIZATION {
        return unready || sample.at.duration_since(changed) < sample.window;
    }
    unready && changed.duration_since(started) < INITIAL_READINESS_DELAY
}

/// What a pod requests, in thousandths; an error names the container that requests nothing.
fn request(pod: &Pod, what: What<'_>) -> Result<i64, String> {
    let spec = pod.spec.as_ref();
    let sidecars = spec
        .and_then(|s| s.init_containers.as_ref())
        .into_iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let all = spec.map(|s| s.containers.as_slice()).unwrap_or_default().iter().chain(sidecars);
    let mut sum = 0;
    for container in all.filter(|c| what.container.is_none_or(|name| c.name == name)) {
        let asked = container.resources.as_ref().and_then(|r| r.requests.as_ref()?.get(what.resource));
        let asked = asked.and_then(|q| Quantity::parse(&q.0).ok()).ok_or_else(|| {
            format!(
                "missing request for {} in container {} of Pod {}",
                what.resource,
                container.name,
                pods::name(pod)
            )
        })?;
        sum += asked.milli_value();
    }
    Ok(sum)
}

/// How much more or less than the target is used: 1.0 is as much as is asked for.
fn ratio(
    samples: &BTreeMap<String, i64>,
    requests: &BTreeMap<String, i64>,
    target: Target,
) -> (f64, Option<i32>, i64) {
    let used: i64 = samples.values().sum();
    let average = used / i64::try_from(samples.len()).unwrap_or(1).max(1);
    match target {
        Target::Average(milli) => (average as f64 / milli.max(1) as f64, None, average),
        Target::Utilization(percent) => {
            let asked: i64 = samples.keys().filter_map(|name| requests.get(name)).sum();
            let utilization = (used * 100 / asked.max(1)).clamp(0, i64::from(i32::MAX)) as i32;
            (f64::from(utilization) / f64::from(percent.max(1)), Some(utilization), average)
        }
    }
}

/// The replicas that `target` asks for. `tolerance` is how far the ratio may be from 1 either way: down and up.
pub fn propose(
    current: i32,
    pods: &[Arc<Pod>],
    samples: &BTreeMap<String, Sample>,
    what: What<'_>,
    target: Target,
    tolerance: (f64, f64),
    now: Timestamp,
) -> Result<Proposal, String> {
    let groups = group(pods, samples, what, now);
    let left_out =
        |name: &String| groups.unready.iter().chain(&groups.ignored).any(|p| pods::name(p) == name);
    let mut used: BTreeMap<String, i64> =
        samples.iter().filter(|(name, _)| !left_out(name)).map(|(name, s)| (name.clone(), s.milli)).collect();
    if used.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    let mut requests = BTreeMap::new();
    if matches!(target, Target::Utilization(_)) {
        for pod in pods {
            requests.insert(pods::name(pod).to_owned(), request(pod, what)?);
        }
    }
    let (first, utilization, average_milli) = ratio(&used, &requests, target);
    let proposal = |replicas: i32| Proposal { replicas, utilization, average_milli };
    let tolerated = |ratio: f64| ratio >= 1.0 - tolerance.0 && ratio <= 1.0 + tolerance.1;
    let with_unready = !groups.unready.is_empty() && first > 1.0;
    if !with_unready && groups.missing.is_empty() {
        let wanted = if tolerated(first) { current } else { ceil(first * groups.ready as f64) };
        return Ok(proposal(wanted));
    }
    // What is not known counts against a change: missing pods as busy when shrinking, as idle when growing.
    for pod in &groups.missing {
        let assumed = match target {
            _ if first > 1.0 => 0,
            Target::Average(milli) => milli,
            Target::Utilization(percent) => {
                requests.get(pods::name(pod)).copied().unwrap_or(0) * i64::from(percent.max(100)) / 100
            }
        };
        if first != 1.0 {
            used.insert(pods::name(pod).to_owned(), assumed);
        }
    }
    if with_unready {
        groups.unready.iter().for_each(|pod| {
            used.insert(pods::name(pod).to_owned(), 0);
        });
    }
    let (second, _, _) = ratio(&used, &requests, target);
    let turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
    let wanted = ceil(second * used.len() as f64);
    let wrong_way = (second < 1.0 && wanted > current) || (second > 1.0 && wanted < current);
    Ok(proposal(if tolerated(second) || turned || wrong_way { current } else { wanted }))
}

fn ceil(value: f64) -> i32 {
    value.ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{at, pod};
    use serde_json::json;

    fn pods_of(states: &[&str]) -> Vec<Arc<Pod>> {
        let made = |(i, state): (usize, &&str)| {
            let base = pod(&format!("p{i}"))
                .with("/spec", "containers", json!([{"name": "c", "resources": {"requests": {"cpu": "1"}}}]))
                .with("/status", "startTime", json!("2026-01-01T00:00:00Z"));
            Arc::new(match *state {
                "ready" => base.ready().build(),
                "pending" => base.phase("Pending").build(),
                "leaving" => base.ready().leaving().build(),
                other => panic!("{other}"),
            })
        };
        states.iter().enumerate().map(made).collect()
    }

    fn run(states: &[&str], millis: &[Option<i64>], target: Target) -> Result<Proposal, String> {
        let pods = pods_of(states);
        let now = at("2026-01-01T01:00:00Z");
        let sample = |milli: i64| Sample { at: now, window: SignedDuration::from_secs(60), milli };
        let samples = millis
            .iter()
            .enumerate()
            .filter_map(|(i, milli)| Some((format!("p{i}"), sample((*milli)?))))
            .collect();
        let what = What { resource: "cpu", container: None };
        let current = states.iter().filter(|s| **s != "leaving").count() as i32;
        propose(current, &pods, &samples, what, target, (0.1, 0.1), now)
    }

    #[test]
    fn usage_makes_replicas() {
        let half = Target::Utilization(50);
        for (states, millis, target, replicas) in [
            (vec!["ready"; 3], vec![Some(300), Some(500), Some(700)], half, 3),
            (vec!["ready"; 3], vec![Some(900), Some(900), Some(900)], half, 6),
            (vec!["ready"; 3], vec![Some(100), Some(100), Some(100)], half, 1),
            (vec!["ready"; 3], vec![Some(540), Some(540), Some(540)], half, 3),
            // A pending pod counts as idle when growing.
            (vec!["ready", "ready", "pending"], vec![Some(900), Some(900), None], half, 4),
            // A pod without metrics counts as busy when shrinking.
            (vec!["ready", "ready", "ready"], vec![Some(100), Some(100), None], half, 3),
            (vec!["ready", "ready", "leaving"], vec![Some(900), Some(900), Some(0)], half, 4),
            (vec!["ready"; 2], vec![Some(900), Some(900)], Target::Average(300), 6),
        ] {
            assert_eq!(run(&states, &millis, target).unwrap().replicas, replicas, "{states:?} {millis:?}");
        }
        assert!(run(&["ready"], &[None], half).is_err());
    }
}
