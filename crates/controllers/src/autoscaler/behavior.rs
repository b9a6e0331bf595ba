//! How fast and how far replicas may change (KEP-853).

use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerSpec};
use k8s_openapi::jiff::Timestamp;

use crate::common::time;

/// Without rules growing may at least go up to this, or to the double.
const GROWTH_MINIMUM: f64 = 4.0;
const GROWTH_FACTOR: f64 = 2.0;

/// What was recommended and done before; forgotten when the controller restarts.
#[derive(Debug, Clone, Default)]
pub struct History {
    recommendations: Vec<(Timestamp, i32)>,
    /// Changes of the number of replicas.
    changes: Vec<(Timestamp, i32)>,
}

/// A condition: type, status, reason, message.
pub type Said = (&'static str, &'static str, &'static str, &'static str);

impl History {
    /// Notes that the replicas were changed.
    pub fn changed(&mut self, from: i32, to: i32, now: Timestamp) {
        self.changes.push((now, to - from));
    }

    fn trim(&mut self, seconds: i64, now: Timestamp) {
        let oldest = time::plus_seconds(now, -seconds);
        self.recommendations.retain(|(at, _)| *at >= oldest);
        self.changes.retain(|(at, _)| *at >= oldest);
    }

    /// Replicas that came or went within the last seconds: (added, removed).
    fn moved(&self, seconds: i32, now: Timestamp) -> (i32, i32) {
        let oldest = time::plus_seconds(now, -i64::from(seconds));
        let recent = || self.changes.iter().filter(move |(at, _)| *at > oldest).map(|(_, change)| *change);
        (recent().filter(|c| *c > 0).sum(), -recent().filter(|c| *c < 0).sum::<i32>())
    }
}

/// The number that `wanted` is held to, and what to say of it. `window` is how long shrinking waits without rules.
pub fn limit(
    spec: &HorizontalPodAutoscalerSpec,
    current: i32,
    wanted: i32,
    history: &mut History,
    window_s: i64,
    now: Timestamp,
) -> (i32, Vec<Said>) {
    let behavior = spec.behavior.clone().unwrap_or_default();
    let up = behavior.scale_up;
    let down = behavior.scale_down;
    let seconds = |rules: Option<&HPAScalingRules>, default: i64| {
        rules.and_then(|r| r.stabilization_window_seconds).map_or(default, i64::from)
    };
    let (up_s, down_s) = (seconds(up.as_ref(), 0), seconds(down.as_ref(), window_s));
    let longest_policy = [&up, &down]
        .iter()
        .filter_map(|r| r.as_ref()?.policies.as_ref()?.iter().map(|p| i64::from(p.period_seconds)).max())
        .max();
    history.trim(up_s.max(down_s).max(longest_policy.unwrap_or(0)), now);
    let (stable, mut said) = stabilize(history, current, wanted, (up_s, down_s), now);
    history.recommendations.push((now, wanted));
    let (held, limited) = hold(spec, current, stable, up.as_ref(), down.as_ref(), history, now);
    said.push(limited);
    (held, said)
}

fn stabilize(
    history: &History,
    current: i32,
    wanted: i32,
    windows: (i64, i64),
    now: Timestamp,
) -> (i32, Vec<Said>) {
    let since = |seconds: i64| time::plus_seconds(now, -seconds);
    let within = |seconds: i64| {
        let oldest = since(seconds);
        history.recommendations.iter().filter(move |(at, _)| *at > oldest).map(|(_, r)| *r)
    };
    let lowest = within(windows.0).chain([wanted]).min().unwrap_or(wanted);
    let highest = within(windows.1).chain([wanted]).max().unwrap_or(wanted);
    // Growing goes no further than the lowest recommendation of its window, shrinking no further than the highest.
    let stable = if current < lowest {
        lowest
    } else if current > highest {
        highest
    } else {
        current
    };
    let said = match stable {
        _ if stable == wanted => {
            let text = "recommended size matches current size";
            ("AbleToScale", "True", "ReadyForNewScale", text)
        }
        _ if wanted < stable => {
            let text = "recent recommendations were higher than current one, applying the highest recent recommendation";
            ("AbleToScale", "True", "ScaleDownStabilized", text)
        }
        _ => {
            let text = "recent recommendations were lower than current one, applying the lowest recent recommendation";
            ("AbleToScale", "True", "ScaleUpStabilized", text)
        }
    };
    (stable, vec![said])
}

fn hold(
    spec: &HorizontalPodAutoscalerSpec,
    current: i32,
    wanted: i32,
    up: Option<&HPAScalingRules>,
    down: Option<&HPAScalingRules>,
    history: &History,
    now: Timestamp,
) -> (i32, Said) {
    let least = spec.min_replicas.unwrap_or(1);
    let most = spec.max_replicas;
    if wanted > current {
        let fastest = match up {
            Some(rules) => fastest_up(rules, current, history, now),
            None => (f64::from(current) * GROWTH_FACTOR).max(GROWTH_MINIMUM) as i32,
        };
        let limit = fastest.max(current);
        if wanted > most.min(limit) {
            return if most <= limit {
                let text = "the desired replica count is more than the maximum replica count";
                (most, ("ScalingLimited", "True", "TooManyReplicas", text))
            } else {
                let text = "the desired replica count is increasing faster than the maximum scale rate";
                (limit, ("ScalingLimited", "True", "ScaleUpLimit", text))
            };
        }
    } else if wanted < current {
        let slowest = down.map_or(i32::MIN, |rules| fastest_down(rules, current, history, now));
        let limit = slowest.min(current);
        if wanted < least.max(limit) {
            return if least >= limit {
                let text = "the desired replica count is less than the minimum replica count";
                (least, ("ScalingLimited", "True", "TooFewReplicas", text))
            } else {
                let text = "the desired replica count is decreasing faster than the maximum scale rate";
                (limit, ("ScalingLimited", "True", "ScaleDownLimit", text))
            };
        }
    }
    let text = "the desired count is within the acceptable range";
    let within = ("ScalingLimited", "False", "DesiredWithinRange", text);
    (wanted.clamp(least.min(most), most), within)
}

/// The number that growing may reach now.
fn fastest_up(rules: &HPAScalingRules, current: i32, history: &History, now: Timestamp) -> i32 {
    let each = |policy: &HPAScalingPolicy| {
        let (added, removed) = history.moved(policy.period_seconds, now);
        let start = current - added + removed;
        match policy.type_.as_str() {
            "Pods" => start.saturating_add(policy.value),
            _ => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
        }
    };
    choose(rules, current, each, |all| all.max(), |all| all.min())
}

/// The number that shrinking may reach now.
fn fastest_down(rules: &HPAScalingRules, current: i32, history: &History, now: Timestamp) -> i32 {
    let each = |policy: &HPAScalingPolicy| {
        let (added, removed) = history.moved(policy.period_seconds, now);
        let start = current + removed - added;
        match policy.type_.as_str() {
            "Pods" => start - policy.value,
            _ => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
        }
    };
    choose(rules, current, each, |all| all.min(), |all| all.max())
}

type Pick<'a> = fn(&mut dyn Iterator<Item = i32>) -> Option<i32>;

/// The policy that changes most counts, unless the rules say the one that changes least, or none.
fn choose(
    rules: &HPAScalingRules,
    current: i32,
    each: impl Fn(&HPAScalingPolicy) -> i32,
    most: Pick<'_>,
    least: Pick<'_>,
) -> i32 {
    let mut all = rules.policies.iter().flatten().map(each);
    let chosen = match rules.select_policy.as_deref() {
        Some("Disabled") => return current,
        Some("Min") => least(&mut all),
        _ => most(&mut all),
    };
    chosen.unwrap_or(current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::testing::{at, object};
    use serde_json::{Value, json};

    fn spec(behavior: Value) -> HorizontalPodAutoscalerSpec {
        object(json!({"minReplicas": 2, "maxReplicas": 20, "behavior": behavior,
            "scaleTargetRef": {"kind": "Deployment", "name": "web"}}))
    }

    #[test]
    fn without_rules_growth_doubles_and_shrinking_waits() {
        let mut history = History::default();
        let mut run = |current, wanted, now: &str| {
            let (held, said) = limit(&spec(json!(null)), current, wanted, &mut history, 300, at(now));
            (held, said.last().unwrap().2)
        };
        assert_eq!(run(3, 10, "2026-01-01T00:00:00Z"), (6, "ScaleUpLimit"));
        assert_eq!(run(6, 50, "2026-01-01T00:00:15Z"), (12, "ScaleUpLimit"));
        assert_eq!(run(12, 50, "2026-01-01T00:00:30Z"), (20, "TooManyReplicas"));
        assert_eq!(run(20, 3, "2026-01-01T00:00:45Z"), (20, "DesiredWithinRange"));
        assert_eq!(run(20, 1, "2026-01-01T00:10:00Z"), (2, "TooFewReplicas"));
    }

    #[test]
    fn policies_limit_the_pace() {
        let rules = json!({"scaleUp": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 60},
            {"type": "Percent", "value": 10, "periodSeconds": 60}]},
            "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min",
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}, {"type": "Percent", "value": 50, "periodSeconds": 60}]}});
        let mut history = History::default();
        let now = at("2026-01-01T00:00:00Z");
        assert_eq!(limit(&spec(rules.clone()), 5, 20, &mut history, 300, now).0, 9);
        history.changed(5, 9, now);
        let soon = at("2026-01-01T00:00:30Z");
        assert_eq!(limit(&spec(rules.clone()), 9, 20, &mut history, 300, soon).0, 9);
        let later = at("2026-01-01T00:05:00Z");
        assert_eq!(limit(&spec(rules.clone()), 9, 2, &mut history, 300, later).0, 8);
        let off = json!({"scaleUp": {"selectPolicy": "Disabled"}});
        assert_eq!(limit(&spec(off), 5, 20, &mut History::default(), 300, now).0, 5);
    }
}
