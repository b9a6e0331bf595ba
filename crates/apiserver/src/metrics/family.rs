//! Families of counters and histograms with labels, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Label sets kept per family; further ones are counted together, so that nobody can make a family grow.
const MAX_SERIES: usize = 2048;

/// What a family is about.
#[derive(Debug)]
struct Description {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
}

impl Description {
    /// `a="x",b="y"`, values escaped.
    fn series(&self, values: &[&str]) -> String {
        let mut out = String::with_capacity(64);
        for (label, value) in self.labels.iter().zip(values) {
            if !out.is_empty() {
                out.push(',');
            }
            let _ = write!(out, "{label}=\"");
            for c in value.chars() {
                match c {
                    '"' => out.push_str("\\\""),
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    c => out.push(c),
                }
            }
            out.push('"');
        }
        out
    }

    fn begin(&self, out: &mut String, kind: &str) {
        let Self { name, help, .. } = self;
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }
}

/// Finds or makes the entry of a label set.
fn entry<T>(
    description: &Description,
    all: &Mutex<BTreeMap<String, Arc<T>>>,
    values: &[&str],
    make: impl FnOnce() -> T,
) -> Arc<T> {
    let key = description.series(values);
    let mut all = all.lock();
    if let Some(found) = all.get(&key) {
        return found.clone();
    }
    let key = if all.len() < MAX_SERIES {
        key
    } else {
        description.series(&vec!["other"; description.labels.len()])
    };
    all.entry(key).or_insert_with(|| Arc::new(make())).clone()
}

/// Counters that differ in their labels.
#[derive(Debug)]
pub struct Counters {
    description: Description,
    all: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
}

impl Counters {
    /// A family without any label set yet.
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { description: Description { name, help, labels }, all: Mutex::new(BTreeMap::new()) }
    }

    /// The counter of a label set, values in the family's order.
    pub fn of(&self, values: &[&str]) -> Arc<AtomicU64> {
        entry(&self.description, &self.all, values, || AtomicU64::new(0))
    }

    /// Counts one.
    pub fn count(&self, values: &[&str]) {
        self.of(values).fetch_add(1, Ordering::Relaxed);
    }

    /// Writes all of them; nothing if there are none.
    pub fn render(&self, out: &mut String) {
        let all = self.all.lock();
        if all.is_empty() {
            return;
        }
        self.description.begin(out, "counter");
        for (labels, count) in all.iter() {
            let name = self.description.name;
            let _ = writeln!(out, "{name}{} {}", braces(labels), count.load(Ordering::Relaxed));
        }
    }
}

/// One distribution.
#[derive(Debug)]
pub struct Distribution {
    bounds: &'static [f64],
    /// Observations up to each bound and above the one before.
    buckets: Vec<AtomicU64>,
    count: AtomicU64,
    /// Bits of an `f64`.
    sum: AtomicU64,
}

impl Distribution {
    fn new(bounds: &'static [f64]) -> Self {
        let buckets = bounds.iter().map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, count: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Adds an observation.
    pub fn observe(&self, value: f64) {
        if let Some(at) = self.bounds.iter().position(|bound| value <= *bound) {
            self.buckets[at].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let add = |bits: u64| Some((f64::from_bits(bits) + value).to_bits());
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// Histograms that differ in their labels.
#[derive(Debug)]
pub struct Histograms {
    description: Description,
    bounds: &'static [f64],
    all: Mutex<BTreeMap<String, Arc<Distribution>>>,
}

impl Histograms {
    /// A family without any label set yet; `bounds` ascend and exclude infinity.
    pub const fn new(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        bounds: &'static [f64],
    ) -> Self {
        Self { description: Description { name, help, labels }, bounds, all: Mutex::new(BTreeMap::new()) }
    }

    /// The histogram of a label set, values in the family's order.
    pub fn of(&self, values: &[&str]) -> Arc<Distribution> {
        entry(&self.description, &self.all, values, || Distribution::new(self.bounds))
    }

    /// Adds an observation.
    pub fn observe(&self, values: &[&str], value: f64) {
        self.of(values).observe(value);
    }

    /// Adds a duration in seconds.
    pub fn took(&self, values: &[&str], time: Duration) {
        self.observe(values, time.as_secs_f64());
    }

    /// Writes all of them; nothing if there are none.
    pub fn render(&self, out: &mut String) {
        let all = self.all.lock();
        if all.is_empty() {
            return;
        }
        self.description.begin(out, "histogram");
        let name = self.description.name;
        for (labels, one) in all.iter() {
            let comma = if labels.is_empty() { "" } else { "," };
            let mut below = 0;
            for (bound, count) in one.bounds.iter().zip(&one.buckets) {
                below += count.load(Ordering::Relaxed);
                let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
            }
            // Read last, so that no bucket is above the whole.
            let count = one.count.load(Ordering::Relaxed).max(below);
            let sum = f64::from_bits(one.sum.load(Ordering::Relaxed));
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "{name}_sum{} {sum}", braces(labels));
            let _ = writeln!(out, "{name}_count{} {count}", braces(labels));
        }
    }
}

fn braces(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let counters = Counters::new("a_total", "Of a.", &["x", "y"]);
        let mut out = String::new();
        counters.render(&mut out);
        assert_eq!(out, "");
        counters.count(&["1", "say \"no\""]);
        counters.count(&["1", "say \"no\""]);
        counters.render(&mut out);
        assert_eq!(
            out,
            "# HELP a_total Of a.\n# TYPE a_total counter\na_total{x=\"1\",y=\"say \\\"no\\\"\"} 2\n"
        );
        let histograms = Histograms::new("b_seconds", "Of b.", &[], &[0.5, 2.0]);
        histograms.took(&[], Duration::from_millis(250));
        histograms.observe(&[], 1.0);
        histograms.observe(&[], 8.0);
        out.clear();
        histograms.render(&mut out);
        assert_eq!(
            out,
            "# HELP b_seconds Of b.\n# TYPE b_seconds histogram\nb_seconds_bucket{le=\"0.5\"} 1\n\
             b_seconds_bucket{le=\"2\"} 2\nb_seconds_bucket{le=\"+Inf\"} 3\nb_seconds_sum 9.25\nb_seconds_count 3\n"
        );
    }

    #[test]
    fn a_family_stays_bounded() {
        let counters = Counters::new("a_total", "Of a.", &["x"]);
        for i in 0..MAX_SERIES + 10 {
            counters.count(&[&i.to_string()]);
        }
        assert_eq!(counters.all.lock().len(), MAX_SERIES + 1);
        assert_eq!(counters.of(&["unseen"]).load(Ordering::Relaxed), 10);
    }
}
