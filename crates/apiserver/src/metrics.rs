//! Counters of requests, in the text format of Prometheus and under upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::request::RequestInfo;

/// Upper bounds of request durations, in seconds.
const BUCKETS: [f64; 10] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 5.0, 60.0];
/// Label sets kept; further ones are counted together, so that clients cannot make this grow.
const MAX_SERIES: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Series {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    code: u16,
}

#[derive(Debug, Default)]
struct Durations {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

/// All counters.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<Series, Durations>>,
    /// Reads and writes being served, and those that last as long as they like.
    reading: AtomicI64,
    mutating: AtomicI64,
    long_running: AtomicI64,
}

/// Measures one request.
pub struct Timer<'a> {
    gauge: &'a AtomicI64,
    metrics: &'a Metrics,
    since: Instant,
}

impl Metrics {
    /// A request has begun.
    pub fn start(&self, info: &RequestInfo) -> Timer<'_> {
        let gauge = match (info.is_long_running(), info.is_read_only()) {
            (true, _) => &self.long_running,
            (false, true) => &self.reading,
            (false, false) => &self.mutating,
        };
        gauge.fetch_add(1, Ordering::Relaxed);
        Timer { gauge, metrics: self, since: Instant::now() }
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let requests = self.requests.lock();
        out.push_str("# HELP apiserver_request_total Counter of apiserver requests.\n");
        out.push_str("# TYPE apiserver_request_total counter\n");
        for (series, durations) in requests.iter() {
            let _ = writeln!(out, "apiserver_request_total{{{}}} {}", labels(series, true), durations.count);
        }
        out.push_str("# HELP apiserver_request_duration_seconds Response latency distribution in seconds.\n");
        out.push_str("# TYPE apiserver_request_duration_seconds histogram\n");
        for (series, durations) in requests.iter() {
            let labels = labels(series, true);
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(durations.buckets) {
                below += count;
                let _ = writeln!(
                    out,
                    "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {below}"
                );
            }
            let count = durations.count;
            let _ =
                writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "apiserver_request_duration_seconds_sum{{{labels}}} {}", durations.sum);
            let _ = writeln!(out, "apiserver_request_duration_seconds_count{{{labels}}} {count}");
        }
        out.push_str("# HELP apiserver_current_inflight_requests Requests being served.\n");
        out.push_str("# TYPE apiserver_current_inflight_requests gauge\n");
        for (kind, gauge) in [("readOnly", &self.reading), ("mutating", &self.mutating)] {
            let count = gauge.load(Ordering::Relaxed);
            let _ = writeln!(out, "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {count}");
        }
        out.push_str("# HELP apiserver_longrunning_requests Long-running requests being served.\n");
        out.push_str("# TYPE apiserver_longrunning_requests gauge\n");
        let count = self.long_running.load(Ordering::Relaxed);
        let _ = writeln!(out, "apiserver_longrunning_requests{{component=\"apiserver\"}} {count}");
        out
    }
}

/// True for text that needs no quoting in a label.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

fn labels(series: &Series, code: bool) -> String {
    let mut out = format!(
        "verb=\"{}\",group=\"{}\",version=\"{}\",resource=\"{}\",subresource=\"{}\"",
        series.verb.to_uppercase(),
        series.group,
        series.version,
        series.resource,
        series.subresource
    );
    if code {
        let _ = write!(out, ",code=\"{}\"", series.code);
    }
    out
}

impl Timer<'_> {
    /// The request has been answered.
    pub fn finish(self, info: &RequestInfo, code: u16) {
        let seconds = self.since.elapsed().as_secs_f64();
        let mut requests = self.metrics.requests.lock();
        let mut series = Series { verb: info.verb, code, ..Series::default() };
        let refused = matches!(code, 401 | 403 | 404);
        let named = [&info.group, &info.version, &info.resource, &info.subresource];
        // What a stranger calls a resource is not repeated: it may be anything.
        if info.is_resource && !refused && named.iter().all(|name| is_plain(name)) {
            series.group.clone_from(&info.group);
            series.version.clone_from(&info.version);
            series.resource.clone_from(&info.resource);
            series.subresource.clone_from(&info.subresource);
        }
        if requests.len() >= MAX_SERIES && !requests.contains_key(&series) {
            series = Series { verb: "other", ..Series::default() };
        }
        let durations = requests.entry(series).or_default();
        durations.count += 1;
        durations.sum += seconds;
        if let Some(at) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            durations.buckets[at] += 1;
        }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.gauge.fetch_sub(1, Ordering::Relaxed);
    }
}
