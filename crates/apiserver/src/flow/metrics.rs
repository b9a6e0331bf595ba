//! Counters of priority and fairness, under upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::config::Config;
use super::level::Refusal;

/// What has happened on a level, by schema.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<Arc<str>, Counts>>);

#[derive(Debug, Default, Clone)]
struct Counts {
    dispatched: u64,
    waited_s: f64,
    rejected: BTreeMap<Refusal, u64>,
}

impl Counters {
    /// A request was served after waiting so long.
    pub fn dispatched(&self, schema: &Arc<str>, waited: Duration) {
        self.count(schema, |counts| {
            counts.dispatched += 1;
            counts.waited_s += waited.as_secs_f64();
        });
    }

    /// A request was refused.
    pub fn rejected(&self, schema: &Arc<str>, why: Refusal) {
        self.count(schema, |counts| *counts.rejected.entry(why).or_default() += 1);
    }

    fn count(&self, schema: &Arc<str>, change: impl FnOnce(&mut Counts)) {
        let mut all = self.0.lock();
        match all.get_mut(schema) {
            Some(counts) => change(counts),
            None => change(all.entry(schema.clone()).or_default()),
        }
    }

    fn snapshot(&self) -> BTreeMap<Arc<str>, Counts> {
        self.0.lock().clone()
    }

    /// Requests served so far.
    pub fn total_dispatched(&self) -> u64 {
        self.0.lock().values().map(|counts| counts.dispatched).sum()
    }

    /// Requests refused so far, for this reason.
    pub fn total_rejected(&self, why: Refusal) -> u64 {
        self.0.lock().values().filter_map(|counts| counts.rejected.get(&why)).sum()
    }
}

/// Writes one metric: its kind, and lines of labels and value.
fn metric(out: &mut String, name: &str, kind: &str, help: &str, lines: &[(String, String)]) {
    let _ = writeln!(
        out,
        "# HELP apiserver_flowcontrol_{name} {help}\n# TYPE apiserver_flowcontrol_{name} {kind}"
    );
    for (labels, value) in lines {
        let _ = writeln!(out, "apiserver_flowcontrol_{name}{{{labels}}} {value}");
    }
}

/// All levels' metrics.
pub fn render(config: &Config, out: &mut String) {
    type Gauge = fn(&super::level::State) -> usize;
    let gauges: [(&str, &str, Gauge); 8] = [
        ("current_executing_requests", "Requests in execution.", |s| s.executing as usize),
        ("current_executing_seats", "Seats in use.", |s| s.seats_in_use as usize),
        ("current_inqueue_requests", "Requests waiting.", |s| s.queues.waiting()),
        ("nominal_limit_seats", "Seats by shares.", |s| s.limits.nominal as usize),
        ("lower_limit_seats", "Seats that are never lent.", |s| s.limits.least as usize),
        ("upper_limit_seats", "Seats with all that may be borrowed.", |s| s.limits.most as usize),
        ("current_limit_seats", "Seats now.", |s| s.current as usize),
        ("demand_seats_high_watermark", "Most seats wanted lately.", |s| s.high_water as usize),
    ];
    for (name, help, gauge) in gauges {
        let lines: Vec<(String, String)> = config
            .levels
            .values()
            .map(|l| (format!("priority_level=\"{}\"", l.name), gauge(&l.state.lock()).to_string()))
            .collect();
        metric(out, name, "gauge", help, &lines);
    }
    let (mut dispatched, mut waited, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
    for level in config.levels.values() {
        for (schema, counts) in level.counters.snapshot() {
            let labels = format!("flow_schema=\"{schema}\",priority_level=\"{}\"", level.name);
            dispatched.push((labels.clone(), counts.dispatched.to_string()));
            waited.push((labels.clone(), counts.waited_s.to_string()));
            for (why, count) in counts.rejected {
                rejected.push((format!("{labels},reason=\"{}\"", why.as_str()), count.to_string()));
            }
        }
    }
    metric(out, "dispatched_requests_total", "counter", "Requests served.", &dispatched);
    metric(out, "rejected_requests_total", "counter", "Requests refused.", &rejected);
    metric(out, "request_wait_duration_seconds_sum", "counter", "Time that requests waited.", &waited);
}
