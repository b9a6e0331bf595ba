//! How long a cluster takes to start, from the milestones that `corten up` prints.

use std::collections::BTreeMap;
use std::path::Path;

use testkit::Cluster;

use super::{Row, spread};

/// How often each way of starting is measured.
const RUNS: usize = 5;

/// Times of milestones by what was reached, in milliseconds.
type Times = BTreeMap<String, Vec<u128>>;

/// First starts, in an empty directory, and starts of a cluster that was stopped.
pub fn measure(_: &Path) -> anyhow::Result<Vec<Row>> {
    let (mut first, mut again) = (Times::new(), Times::new());
    for _ in 0..RUNS {
        let cluster = Cluster::new();
        note(&cluster.start().ok(), &mut first);
        cluster.corten(&["down"]).output().ok();
        note(&cluster.start().ok(), &mut again);
    }
    let rows = |way: &str, times: &Times| -> Vec<Row> {
        let mut milestones: Vec<_> = times.iter().collect();
        milestones.sort_by_key(|(_, values)| values.iter().sum::<u128>());
        milestones.iter().map(|(what, values)| Row::new(format!("{way} to {what}"), spread(values))).collect()
    };
    Ok([rows("first start", &first), rows("restart", &again)].concat())
}

fn note(printed: &str, times: &mut Times) {
    for (what, time_ms) in printed.lines().filter_map(milestone) {
        times.entry(what.to_owned()).or_default().push(time_ms);
    }
}

/// `  API ready in 93 ms`: what, and after how many milliseconds.
fn milestone(line: &str) -> Option<(&str, u128)> {
    let (what, time) = line.trim().strip_suffix(" ms")?.rsplit_once(" in ")?;
    Some((what, time.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milestones_are_lines_that_end_in_a_time() {
        assert_eq!(milestone("  API ready in 93 ms"), Some(("API ready", 93)));
        assert_eq!(milestone("starting cluster x in /tmp/y"), None);
    }
}
