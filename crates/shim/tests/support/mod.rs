//! One test's sandboxes, with all that they leave removed at its end.

#[path = "../../../oci/tests/support/bundle.rs"]
pub mod bundle;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use shim::{ContainerState, CreateContainer, Event, Events, ExitStatus, RuntimeCommand, Shim, ShimConfig};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How long a test waits for what must happen; far more than it takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A directory for one sandbox, its bundles and logs, and a cgroup.
pub struct Fixture {
    dir: tempfile::TempDir,
    busybox: PathBuf,
    pub cgroup: String,
    pub runtime: Vec<String>,
}

/// The program with the shim and the runtime, which cargo builds beside the tests.
pub fn program() -> String {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples/corten-shim-test");
    assert!(path.exists(), "{} is built by `cargo test -p shim`", path.display());
    path.to_str().unwrap().to_owned()
}

/// Our runtime, and every other one that the machine has.
pub fn runtimes() -> Vec<Vec<String>> {
    let mut runtimes = vec![vec!["/proc/self/exe".to_owned(), "oci".to_owned()]];
    for name in ["runc", "crun"] {
        let dirs = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
        match dirs.iter().map(|dir| format!("{dir}/{name}")).find(|path| Path::new(path).exists()) {
            // Version 1 with controllers of version 2 beside them is more than crun takes.
            Some(_) if name == "crun" && Path::new("/sys/fs/cgroup/unified").exists() => {
                println!("skipped with crun: the machine's cgroups are hybrid");
            }
            Some(path) => runtimes.push(vec![path]),
            None => println!("skipped with {name}: not installed"),
        }
    }
    runtimes
}

/// One for each runtime; none if this machine cannot run the tests.
pub fn fixtures() -> Vec<Fixture> {
    runtimes().into_iter().filter_map(Fixture::new).collect()
}

/// One with our runtime.
pub fn fixture() -> Option<Fixture> {
    Fixture::new(runtimes().remove(0))
}

impl Fixture {
    pub fn new(runtime: Vec<String>) -> Option<Self> {
        let busybox = bundle::busybox()?;
        Some(Self { dir: tempfile::tempdir().unwrap(), busybox, cgroup: bundle::unique("shim"), runtime })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The shim's directory, with a path that is too long for a socket's address.
    pub fn shim_dir(&self) -> PathBuf {
        self.path(&"long".repeat(30)).join("shim")
    }

    pub fn config(&self) -> ShimConfig {
        ShimConfig {
            sandbox_id: self.cgroup.clone(),
            runtime: RuntimeCommand { command: self.runtime.clone(), root: self.path("runtime") },
            hostname: Some("pod".to_owned()),
            ipc: true,
            shared_pid: false,
            netns: None,
            sysctls: Default::default(),
            cgroup: None,
            oom_score_adj: 0,
        }
    }

    pub async fn start(&self) -> Shim {
        self.start_with(&self.config()).await
    }

    pub async fn start_with(&self, config: &ShimConfig) -> Shim {
        Shim::start(&[program(), "shim".to_owned()], &self.shim_dir(), config).await.unwrap()
    }

    /// A bundle and the request to make a container of it, which runs a shell script.
    pub fn bundle(&self, id: &str, script: &str, edit: impl FnOnce(&mut Value)) -> CreateContainer {
        let dir = self.path(id);
        bundle::make_rootfs(&self.busybox, &dir.join("rootfs"));
        let mut spec = bundle::spec(&["sh", "-c", script], &self.cgroup, id);
        spec["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "mount"}, {"type": "network"}]);
        spec["hostname"] = json!("");
        spec["mounts"].as_array_mut().unwrap().retain(|m| m["type"] != "mqueue");
        edit(&mut spec);
        std::fs::write(dir.join("config.json"), spec.to_string()).unwrap();
        CreateContainer {
            // Ids are the machine's for some runtimes.
            id: self.id(id),
            bundle: dir,
            stdin: false,
            stdin_once: false,
            tty: spec["process"]["terminal"] == true,
            log_path: Some(self.path(&format!("{id}.log"))),
        }
    }

    pub fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.cgroup)
    }

    /// Creates and starts.
    pub async fn run(&self, shim: &Shim, request: CreateContainer) -> ContainerState {
        let id = request.id.clone();
        shim.create_container(request).await.unwrap();
        shim.start_container(&id).await.unwrap()
    }

    /// The log's lines: stream, tag, text.
    pub fn log(&self, id: &str) -> Vec<(String, String, String)> {
        let text = std::fs::read_to_string(self.path(&format!("{id}.log"))).unwrap();
        let line = |line: &str| {
            let mut parts = line.splitn(4, ' ');
            let time = parts.next().unwrap();
            assert!(time.len() == 30 && time.ends_with('Z'), "{time}");
            let mut next = || parts.next().unwrap().to_owned();
            (next(), next(), next())
        };
        text.lines().map(line).collect()
    }

    /// The texts of the log's lines.
    pub fn log_text(&self, id: &str) -> String {
        self.log(id).into_iter().map(|(_, _, text)| text).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // Whatever the test did: the shim dies, then the runtime's containers, then the cgroups.
        let dir = self.shim_dir();
        let marker = dir.to_str().unwrap().as_bytes().to_vec();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let is_shim = std::fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| line.windows(marker.len()).any(|part| part == marker));
            if let (true, Ok(pid)) = (is_shim, entry.file_name().to_string_lossy().parse::<i32>()) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
            }
        }
        let mut command: Vec<String> = self.runtime.clone();
        if command[0] == "/proc/self/exe" {
            command[0] = program();
        }
        for entry in std::fs::read_dir(self.path("runtime")).into_iter().flatten().flatten() {
            let _ = std::process::Command::new(&command[0])
                .args(&command[1..])
                .arg("--root")
                .arg(self.path("runtime"))
                .args(["delete", "--force"])
                .arg(entry.file_name())
                .output();
        }
        bundle::remove_cgroups(&self.cgroup);
    }
}

/// The exit of a container, from the events.
pub async fn exit_of(events: &mut Events, wanted: &str) -> ExitStatus {
    let wait = async {
        loop {
            match events.next().await {
                Some(Event::ContainerExited { id, exit }) if id == wanted => return exit,
                Some(_) => {}
                None => panic!("the shim's events ended"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("no exit came")
}

/// A process as CRI servers make it for exec.
pub fn process(args: &[&str]) -> Value {
    json!({"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}})
}

/// Reads until what has come contains `wanted`.
pub async fn read_until(stream: &mut (impl AsyncRead + Unpin), wanted: &str) -> String {
    let mut text = String::new();
    let mut chunk = [0; 4096];
    let read = async {
        while !text.contains(wanted) {
            let count = stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "the stream ended after {text:?}");
            text.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    };
    if tokio::time::timeout(PATIENCE, read).await.is_err() {
        panic!("{wanted:?} did not come, but {text:?}");
    }
    text
}

/// Reads to the end.
pub async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.expect("no end").unwrap();
    text
}

/// Waits until a container has written something.
pub async fn wait_for_log(f: &Fixture, name: &str, wanted: &str) {
    let wait = async {
        while !f.log_text(name).contains(wanted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the log does not have it");
}
