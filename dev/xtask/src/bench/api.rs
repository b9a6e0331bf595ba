//! The API server alone with ten thousand pods, over TLS; the load runs on the same machine.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::{Row, megabytes, target};
use crate::packages;
use crate::run::{command, run};

/// Pods in the store when it is read.
const PODS: u64 = 10_000;
/// How long each load runs.
const RUN: Duration = Duration::from_secs(8);
/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Who watch the pods, each over a connection of their own.
const WATCHERS: u64 = 1_000;
/// Changes that all of them are told of, one after another.
const CHANGES: u64 = 100;
/// Open files of this program and the server: a connection is one.
const FILES: libc::rlim_t = 8_192;
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

/// Creates, gets, lists and watches, and the memory that they take.
pub fn measure(binary: &Path) -> anyhow::Result<Vec<Row>> {
    packages::require("wrk", "/usr/bin/wrk")?;
    // Built first: the machine rests while things are measured.
    run(&mut command(&["cargo", "build", "--release", "--package", "apiserver", "--example", "watchers"]))?;
    allow_files(FILES)?;
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
    let list = format!("{PATH}?limit={PODS}");
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
    rows.push(server.watchers()?);
    Ok(rows)
}

/// Lets this process and its children open that many files, if the system does.
fn allow_files(count: libc::rlim_t) -> anyhow::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls are given a whole structure that lives until they return.
    let set = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max.min(count.max(limit.rlim_cur));
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
        }
    };
    if set { Ok(()) } else { Err(std::io::Error::last_os_error()).context("allow more open files") }
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
        let port = testnet::reserve_port();
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

    /// How soon many watchers see a change.
    fn watchers(&self) -> anyhow::Result<Row> {
        let address = self.address.trim_start_matches("https://");
        let output = Command::new(target().join("release/examples/watchers"))
            .args([address, TOKEN, PATH, "c1-9"])
            .args([WATCHERS, CHANGES].map(|number| number.to_string()))
            .output()
            .context("watchers")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers = text.lines().find_map(|line| line.strip_prefix("RESULT ")).unwrap_or_default();
        let ms: Vec<f64> =
            numbers.split(' ').filter_map(|us| Some(us.parse::<f64>().ok()? / 1000.0)).collect();
        let [p50, p99, most] = ms[..] else {
            bail!("watchers: {text}{}", String::from_utf8_lossy(&output.stderr));
        };
        let measured = format!("p50 {p50:.1} ms, p99 {p99:.1} ms, at most {most:.1} ms");
        Ok(Row::new(format!("a change seen by {WATCHERS} watchers, from its request on"), measured))
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
