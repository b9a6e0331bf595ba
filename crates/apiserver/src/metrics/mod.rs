//! Counters of requests, in the text format of Prometheus and under upstream's names.

pub mod families;
pub mod family;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use http::request::Parts;
use parking_lot::Mutex;

use crate::request::RequestInfo;

/// Upper bounds of request durations, in seconds.
const BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// Label sets kept; further ones are counted together, so that clients cannot make this grow.
const MAX_SERIES: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Series {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    /// `cluster`, `namespace` or `resource`; empty for what is no resource.
    scope: &'static str,
    /// `All`, or nothing.
    dry_run: &'static str,
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
    verb: &'static str,
    dry_run: bool,
    since: Instant,
}

impl Metrics {
    /// A request has begun.
    pub fn start(&self, info: &RequestInfo, parts: &Parts) -> Timer<'_> {
        let gauge = match (info.is_long_running(), info.is_read_only()) {
            (true, _) => &self.long_running,
            (false, true) => &self.reading,
            (false, false) => &self.mutating,
        };
        gauge.fetch_add(1, Ordering::Relaxed);
        let dry_run = !info.is_read_only() && parts.uri.query().is_some_and(|q| q.contains("dryRun="));
        Timer { gauge, metrics: self, verb: verb(info, parts), dry_run, since: Instant::now() }
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
        let mut by_labels: BTreeMap<String, Durations> = BTreeMap::new();
        for (series, durations) in requests.iter() {
            by_labels.entry(labels(series, false)).or_default().add(durations);
        }
        for (labels, durations) in &by_labels {
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
        families::render(&mut out);
        out
    }
}

/// True for text that needs no quoting in a label.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

fn labels(series: &Series, code: bool) -> String {
    let mut out = format!(
        "component=\"apiserver\",dry_run=\"{}\",group=\"{}\",resource=\"{}\",scope=\"{}\",subresource=\"{}\",\
         verb=\"{}\",version=\"{}\"",
        series.dry_run,
        series.group,
        series.resource,
        series.scope,
        series.subresource,
        series.verb,
        series.version
    );
    if code {
        let _ = write!(out, ",code=\"{}\"", series.code);
    }
    out
}

impl Timer<'_> {
    /// The request has been answered, with a body of so many bytes if that is known.
    pub fn finish(self, info: &RequestInfo, code: u16, bytes: Option<u64>) {
        let seconds = self.since.elapsed().as_secs_f64();
        let mut requests = self.metrics.requests.lock();
        let mut series = Series { verb: self.verb, code, ..Series::default() };
        let refused = matches!(code, 401 | 403 | 404);
        let named = [&info.group, &info.version, &info.resource, &info.subresource];
        // What a stranger calls a resource is not repeated: it may be anything.
        if info.is_resource && !refused && named.iter().all(|name| is_plain(name)) {
            series.group.clone_from(&info.group);
            series.version.clone_from(&info.version);
            series.resource.clone_from(&info.resource);
            series.subresource.clone_from(&info.subresource);
            series.scope = scope(info);
            series.dry_run = if self.dry_run { "All" } else { "" };
            if let (Some(bytes), "GET" | "LIST") = (bytes, self.verb) {
                families::RESPONSES.observe(
                    &[
                        "apiserver",
                        &series.group,
                        &series.resource,
                        series.scope,
                        &series.subresource,
                        self.verb,
                        &series.version,
                    ],
                    bytes as f64,
                );
            }
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

/// The verb as upstream's metrics name it: the method, but `LIST`, `WATCH`, `APPLY` and `DELETECOLLECTION`.
fn verb(info: &RequestInfo, parts: &Parts) -> &'static str {
    let applies = |parts: &Parts| {
        let media = parts.headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        media.is_some_and(|m| m.starts_with("application/apply-patch"))
    };
    match (info.verb, parts.method.as_str()) {
        ("list", _) => "LIST",
        ("watch", _) => "WATCH",
        ("deletecollection", _) => "DELETECOLLECTION",
        _ if matches!(info.subresource.as_str(), "proxy" | "exec" | "attach" | "portforward") => "CONNECT",
        (_, "PATCH") if applies(parts) => "APPLY",
        (_, "GET") => "GET",
        (_, "HEAD") => "HEAD",
        (_, "POST") => "POST",
        (_, "PUT") => "PUT",
        (_, "PATCH") => "PATCH",
        (_, "DELETE") => "DELETE",
        (_, "OPTIONS") => "OPTIONS",
        _ => "other",
    }
}

/// What a request is about, as upstream's metrics name it.
pub fn scope(info: &RequestInfo) -> &'static str {
    match info {
        info if !info.name.is_empty() || info.verb == "create" => "resource",
        info if !info.namespace.is_empty() => "namespace",
        info if info.is_resource => "cluster",
        _ => "",
    }
}

impl Durations {
    fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(mine, theirs)| *mine += theirs);
        self.count += other.count;
        self.sum += other.sum;
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.gauge.fetch_sub(1, Ordering::Relaxed);
    }
}
