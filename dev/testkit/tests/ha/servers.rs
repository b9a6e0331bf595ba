//! Machines with a control plane each, on one network.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use testkit::{Image, Lan, Machine, Output, Run, corten_binary, wait_until};

/// A machine that runs `corten server`. Dropped, it is removed with every trace.
pub struct Server {
    machine: Machine,
    folder: tempfile::TempDir,
    host: u8,
    child: Option<Child>,
    etcd: Option<Child>,
    /// The machines with an etcd, if this one has a member of it.
    etcd_hosts: Vec<u8>,
}

impl Server {
    /// A machine at 198.51.100.`host` on which nothing runs yet.
    pub fn new(lan: &Arc<Lan>, host: u8) -> Self {
        let folder = tempfile::Builder::new().prefix("corten-ha-").tempdir().unwrap();
        Self { machine: lan.machine(host), folder, host, child: None, etcd: None, etcd_hosts: Vec::new() }
    }

    /// Its machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A folder for a story's files.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Name of its node.
    pub fn node(&self) -> String {
        format!("node-{}", self.host)
    }

    /// Unique on the host, since machines share its cgroups.
    fn name(&self) -> String {
        self.machine.name().replace("corten-test", "h")
    }

    /// A file below its data directory.
    pub fn file(&self, path: &str) -> String {
        self.folder.path().join("data").join(path).to_string_lossy().into_owned()
    }

    /// A corten command on this machine.
    pub fn corten(&self, words: &[&str]) -> Run {
        let binary = corten_binary().to_string_lossy().into_owned();
        let (name, data) = (self.name(), self.file(""));
        let mut all = vec![binary.as_str()];
        all.extend(words);
        all.extend(["--name", &name, "--data-dir", data.trim_end_matches('/')]);
        self.machine.run(&all)
    }

    /// Starts `corten server` with further arguments.
    pub fn start(&mut self, words: &[&str]) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let node = self.node();
        let fixed = ["server", "--node-name", &node, "--secure-port", "6443", "--kubelet-port", "10250"];
        let mut command = self.corten(&[&fixed, words].concat()).into_command();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Starts Debian's etcd as the member of this machine among those of `hosts`.
    pub fn start_etcd(&mut self, hosts: &[u8]) {
        let url = |host: u8, port: u16| format!("http://198.51.100.{host}:{port}");
        let cluster: Vec<String> =
            hosts.iter().map(|host| format!("node-{host}={}", url(*host, 2380))).collect();
        let (peer, client, data) =
            (url(self.host, 2380), url(self.host, 2379), self.folder.path().join("etcd"));
        let log =
            File::options().create(true).append(true).open(self.folder.path().join("etcd.log")).unwrap();
        let words = [
            "etcd",
            "--name",
            &self.node(),
            "--data-dir",
            &data.to_string_lossy(),
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--initial-cluster",
            &cluster.join(","),
        ];
        let mut command = self.machine.run(&words).into_command();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.etcd = Some(command.spawn().unwrap());
        self.etcd_hosts = hosts.to_vec();
    }

    /// Kills the server and a member beside it at once, as a machine that loses power would.
    pub fn kill(&mut self) {
        for mut child in [self.child.take(), self.etcd.take()].into_iter().flatten() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts what was killed, as a service manager does.
    pub fn start_again(&mut self) {
        let hosts = self.etcd_hosts.clone();
        if !hosts.is_empty() {
            self.start_etcd(&hosts);
        }
        self.start(&[]);
    }

    /// A kubectl command that asks this machine's API server; it gives up after a few seconds.
    pub fn kubectl(&self, words: &[&str]) -> Output {
        let kubeconfig = self.file("kubeconfig");
        let mut all = vec!["kubectl", "--kubeconfig", &kubeconfig, "--request-timeout=5s"];
        all.extend(words);
        self.machine.run(&all).env("HOME", self.folder.path()).output()
    }

    /// What a kubectl command prints, its words separated by spaces.
    #[track_caller]
    pub fn k(&self, line: &str) -> String {
        self.kubectl(&line.split_whitespace().collect::<Vec<_>>()).ok()
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &Value) {
        let path = self.folder.path().join("manifest.json");
        std::fs::write(&path, manifest.to_string()).unwrap();
        self.kubectl(&["apply", "-f", &path.to_string_lossy()]).ok();
    }

    /// Waits until a kubectl command prints what is expected.
    #[track_caller]
    pub fn until(&self, line: &str, expected: impl Fn(&str) -> bool) {
        let words: Vec<&str> = line.split_whitespace().collect();
        wait_until(&format!("{}: kubectl {line}", self.node()), || {
            let output = self.kubectl(&words);
            match output.status.success() && expected(output.stdout.trim_end()) {
                true => Ok(()),
                false => Err(format!("{}{}", output.stdout, output.stderr)),
            }
        });
    }

    /// Waits until its API server and its node are ready.
    #[track_caller]
    pub fn ready(&mut self) {
        wait_until(&format!("{} is ready", self.node()), || {
            if let Some(child) = self.child.as_mut()
                && let Some(status) = child.try_wait().unwrap()
            {
                panic!("{} ended with {status}\n{}", self.node(), self.log());
            }
            let node = self.node();
            let words = ["wait", "--for=condition=Ready", "--timeout=1s", "node", &node];
            let output = self.kubectl(&words);
            if output.status.success() { Ok(()) } else { Err(output.stderr) }
        });
    }

    /// Imports an image.
    pub fn import(&self, image: &Image) {
        self.corten(&["image", "import", &image.tar.to_string_lossy()])
            .limit(Duration::from_secs(60))
            .output()
            .ok();
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("log of {}:\n{}", self.node(), self.log());
            let words = ["get", "nodes,deploy,rs,pods,endpointslices,leases", "-A", "-o", "wide"];
            let output = self.kubectl(&words);
            println!("{}{}", output.stdout, output.stderr);
        }
        self.kill();
        if std::path::Path::new(&self.file("")).exists() {
            let output = self.corten(&["down", "--delete"]).output();
            if !output.status.success() {
                println!("corten down --delete: {}{}", output.stdout, output.stderr);
            }
        }
    }
}
