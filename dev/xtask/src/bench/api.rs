//! The API server alone with ten thousand pods, over TLS; the load runs on the same machine.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::{Row, megabytes};
use crate::packages;

/// Pods in the store when it is read.
const PODS: u64 = 10_000;
/// How long each load runs.
const RUN: Duration = Duration::from_secs(8);
/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN: &str = "bench";
const PATH: &str = "/api/v1/namespaces/bench/pods";

/// What `wrk` sends: pods of about five kilobytes with names of their own, or the one request given.
const SCRIPT: &str = r#"
wrk.headers["Authorization"] = "Bearer bench"
wrk.headers["Content-Type"] = "application/json"
local run, n, fill = os.getenv("RUN"), 0, string.rep("y", 2000)
if run then
  function request()
    n = n + 1
    local meta = string.format('{"name":"%s-%d","labels":{"app":"load","part":"%d"},"annotations":{"fill":"%s"}}', run, n, n % 100, fill)
    local container = '{"name":"main","image":"registry.test/load:1","ports":[{"containerPort":8080}],' ..
      '"resources":{"requests":{"cpu":"50m","memory":"32Mi"}},"env":[{"name":"KEY","value":"value"}]}'
    local pod = string.format('{"apiVersion":"v1","kind":"Pod","metadata":%s,"spec":{"nodeName":"node-%d","containers":[%s]}}', meta, n % 50, container)
    return wrk.format("POST", nil, nil, pod)
  end
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %.2f %.2f %d\n", summary.requests, summary.duration / 1000,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, e.status + e.connect + e.read + e.timeout))
end
"#;

/// Creates, gets and lists, and the memory that they take.
pub fn measure(binary: &Path) -> anyhow::Result<Vec<Row>> {
    packages::require("wrk", "/usr/bin/wrk")?;
    let folder = tempfile::Builder::new().prefix("corten-bench-").tempdir()?;
    let server = Server::start(binary, folder.path())?;
    server.curl("/api/v1/namespaces", Some(r#"{"metadata":{"name":"bench"}}"#))?;
    let account = r#"{"metadata":{"name":"default"}}"#;
    server.curl("/api/v1/namespaces/bench/serviceaccounts", Some(account))?;
    let mut rows = vec![
        Row::new("API server alone: ready", format!("{} ms", server.ready.as_millis())),
        Row::new("its memory, empty", megabytes(server.memory()?)),
    ];
    for clients in [1, 64] {
        let load = server.wrk(PATH, clients, RUN, Some(&format!("c{clients}")))?;
        rows.push(load.row(&format!("durable creates, clients: {clients}")));
    }
    let mut more = 0;
    while server.count()? < PODS {
        more += 1;
        server.wrk(PATH, 64, RUN, Some(&format!("more{more}")))?;
    }
    let pods = server.count()?;
    rows.push(Row::new(format!("its memory with {pods} pods"), megabytes(server.memory()?)));
    rows.push(server.wrk(&format!("{PATH}/c1-9"), 64, RUN, None)?.row("gets of one pod, clients: 64"));
    let before = server.memory()?;
    // Lists are compared at this size, however many pods the loads made.
    let list = format!("{PATH}?resourceVersion=0&limit={PODS}");
    let mut fastest = Duration::MAX;
    let mut bytes = 0;
    for _ in 0..5 {
        let started = Instant::now();
        bytes = server.curl(&list, None)?.len();
        fastest = fastest.min(started.elapsed());
    }
    let size = megabytes(bytes as u64);
    rows.push(Row::new(
        format!("list of {PODS} pods ({size} of JSON)"),
        format!("{} ms", fastest.as_millis()),
    ));
    let started = Instant::now();
    let lists: Vec<Child> = (0..10).map(|_| server.command(&list, None).spawn()).collect::<Result<_, _>>()?;
    for mut list in lists {
        list.wait()?;
    }
    rows.push(Row::new("ten of them at once", format!("{} ms", started.elapsed().as_millis())));
    rows.push(Row::new("memory that the lists added", megabytes(server.memory()?.saturating_sub(before))));
    Ok(rows)
}

/// One load's outcome.
struct Load {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Load {
    fn row(&self, what: &str) -> Row {
        let Self { per_second, p50_ms, p99_ms } = self;
        Row::new(what, format!("{per_second:.0}/s, p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms"))
    }
}

struct Server {
    child: Child,
    address: String,
    script: std::path::PathBuf,
    ready: Duration,
}

impl Server {
    fn start(binary: &Path, folder: &Path) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let file = |name: &str, text: &str| -> anyhow::Result<std::path::PathBuf> {
            let path = folder.join(name);
            fs::write(&path, text)?;
            Ok(path)
        };
        let tokens = file("tokens.csv", &format!("{TOKEN},bench,bench,system:masters\n"))?;
        let script = file("load.lua", SCRIPT)?;
        let started = Instant::now();
        let child = Command::new(binary)
            .args(["kube-apiserver", "--bind-address=127.0.0.1", "--authorization-mode=Node,RBAC"])
            .args(["--service-cluster-ip-range=10.96.0.0/16", &format!("--secure-port={port}")])
            .arg("--data-dir")
            .arg(folder.join("data"))
            .arg("--cert-dir")
            .arg(folder.join("certificates"))
            .arg("--token-auth-file")
            .arg(tokens)
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log"))?)
            .spawn()
            .context("start the API server")?;
        let address = format!("https://127.0.0.1:{port}");
        let mut server = Self { child, address, script, ready: Duration::ZERO };
        while server.curl("/readyz", None).map_or(true, |answer| answer != b"ok") {
            if started.elapsed() > PATIENCE || server.child.try_wait()?.is_some() {
                bail!("the API server does not start: {}", fs::read_to_string(folder.join("log"))?);
            }
        }
        server.ready = started.elapsed();
        Ok(server)
    }

    fn command(&self, path: &str, body: Option<&str>) -> Command {
        let mut command = Command::new("curl");
        command.args(["-sk", "-H", &format!("Authorization: Bearer {TOKEN}")]);
        if let Some(body) = body {
            command.args(["-H", "Content-Type: application/json", "-d", body]);
        }
        command.arg(format!("{}{path}", self.address)).stdout(Stdio::null());
        command
    }

    fn curl(&self, path: &str, body: Option<&str>) -> anyhow::Result<Vec<u8>> {
        let output = self.command(path, body).stdout(Stdio::piped()).output().context("curl")?;
        Ok(output.stdout)
    }

    /// Objects in the list, by its first page.
    fn count(&self) -> anyhow::Result<u64> {
        let page: serde_json::Value = serde_json::from_slice(&self.curl(&format!("{PATH}?limit=1"), None)?)?;
        let first = page["items"].as_array().map_or(0, Vec::len) as u64;
        Ok(first + page["metadata"]["remainingItemCount"].as_u64().unwrap_or(0))
    }

    fn wrk(&self, path: &str, clients: u32, time: Duration, run: Option<&str>) -> anyhow::Result<Load> {
        let mut command = Command::new("wrk");
        command.args(["-t1", &format!("-c{clients}"), &format!("-d{}s", time.as_secs()), "-s"]);
        command.arg(&self.script).arg(format!("{}{path}", self.address));
        if let Some(run) = run {
            command.env("RUN", run);
        }
        let output = command.output().context("wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<f64> = text
            .lines()
            .find_map(|line| line.strip_prefix("RESULT "))
            .map(|line| line.split(' ').filter_map(|word| word.parse().ok()).collect())
            .unwrap_or_default();
        let [requests, millis, p50_ms, p99_ms, errors] = numbers[..] else {
            bail!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
        };
        if errors > 0.0 {
            bail!("{errors} of {requests} requests to {path} failed");
        }
        Ok(Load { per_second: requests / millis * 1000.0, p50_ms, p99_ms })
    }

    /// Resident memory, in bytes.
    fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
