//! How long pods take from their creation until they run, as a watch sees it.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use testkit::{Cluster, busybox};

use super::{Row, spread};

/// How many pods.
pub const COUNT: usize = 10;
/// How often the pods are made all at once.
const RUNS: usize = 3;
const IMAGE: &str = "bench.local/busybox:1";

/// Pods one after another, and all at once.
pub fn measure(_: &Path) -> anyhow::Result<Vec<Row>> {
    let cluster = Cluster::up();
    import(&cluster);
    let mut watch = Watch::open(&cluster)?;
    // The first pod of a node also unpacks the image.
    cluster.apply(&pod("first"));
    watch.all_run(1)?;
    let mut one_by_one = Vec::new();
    for number in 0..COUNT {
        cluster.apply(&pod(&format!("single-{number}")));
        one_by_one.push(watch.all_run(1)?);
    }
    let mut together = Vec::new();
    for run in 0..RUNS {
        cluster.apply(&list(&format!("group-{run}")));
        together.push(watch.all_run(COUNT)?);
    }
    drop(watch);
    Ok(vec![
        Row::new("one pod, created to running", spread(&one_by_one)),
        Row::new(format!("{COUNT} pods at once, the first created to the last running"), spread(&together)),
    ])
}

/// Makes the image of the pods and brings it to the node.
pub fn import(cluster: &Cluster) {
    cluster.import(&busybox(cluster.folder(), IMAGE, &[], &["sleep", "3600"]));
}

/// As many pods as are measured.
pub fn list(prefix: &str) -> Value {
    let items: Vec<Value> = (0..COUNT).map(|number| pod(&format!("{prefix}-{number}"))).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": IMAGE, "command": ["sleep", "3600"]}],
        },
    })
}

/// `kubectl get pods --watch`, a line per change.
struct Watch {
    kubectl: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn open(cluster: &Cluster) -> anyhow::Result<Self> {
        let output = "jsonpath={.metadata.name} {.status.phase}{\"\\n\"}";
        let mut command = cluster.kubectl(&["get", "pods", "--watch", "-o", output]).into_command();
        let mut kubectl =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start kubectl")?;
        let stdout = kubectl.stdout.take().context("piped")?;
        Ok(Self { kubectl, lines: BufReader::new(stdout).lines() })
    }

    /// Waits until `count` more pods run; gives the milliseconds since the first of them was seen.
    fn all_run(&mut self, count: usize) -> anyhow::Result<u128> {
        let mut started = None;
        let mut running = std::collections::BTreeSet::new();
        for line in self.lines.by_ref() {
            let line = line.context("read from kubectl")?;
            let now = Instant::now();
            let Some((name, phase)) = line.split_once(' ') else { continue };
            match phase {
                "Pending" => {
                    started.get_or_insert(now);
                }
                // A pod of an earlier round may be told of again.
                "Running" if started.is_some() => {
                    running.insert(name.to_owned());
                }
                "Failed" => bail!("pod {name} has failed"),
                _ => {}
            }
            if let Some(started) = started
                && running.len() == count
            {
                return Ok((now - started).as_millis());
            }
        }
        bail!("the watch has ended")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}
