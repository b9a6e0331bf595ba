//! A cluster of a story, on a machine of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::corten_binary;
use crate::image::Image;
use crate::machine::Machine;
use crate::process::{Output, Run, wait_until};

/// A running cluster with its data in a temporary folder. Dropped, it is removed with every trace.
pub struct Cluster {
    machine: Arc<Machine>,
    folder: tempfile::TempDir,
    name: String,
    flags: &'static [&'static str],
}

impl Cluster {
    /// `corten up` on a new machine.
    pub fn up() -> Self {
        let cluster = Self::new();
        println!("{}", cluster.start().ok());
        cluster
    }

    /// A machine with a folder, and no cluster on it yet.
    pub fn new() -> Self {
        let machine = Arc::new(Machine::new());
        let name = machine.name().replace("corten-test", "t");
        Self::on(machine, name, &["--secure-port", "6443", "--kubelet-port", "10250"])
    }

    /// Another cluster on the machine of `other`, not started; it finds ports of its own.
    pub fn beside(other: &Self) -> Self {
        Self::on(other.machine.clone(), format!("{}-b", other.name), &[])
    }

    fn on(machine: Arc<Machine>, name: String, flags: &'static [&'static str]) -> Self {
        let folder = tempfile::Builder::new().prefix("corten-").tempdir().expect("a folder");
        Self { machine, folder, name, flags }
    }

    /// Its machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A folder for a story's files, beside the cluster's data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Runs `corten up`.
    pub fn start(&self) -> Output {
        self.corten(&[&["up", "--node-name", "node-1"], self.flags].concat()).output()
    }

    /// A corten command about this cluster.
    pub fn corten(&self, words: &[&str]) -> Run {
        let binary = corten_binary().to_string_lossy().into_owned();
        let data = self.data_dir().to_string_lossy().into_owned();
        let mut all: Vec<&str> = vec![&binary];
        all.extend(words);
        all.extend(["--name", &self.name, "--data-dir", &data]);
        self.machine.run(&all)
    }

    /// The process id of the running server.
    pub fn server_pid(&self) -> i32 {
        let text = std::fs::read_to_string(self.data_dir().join("run/server.pid")).expect("a server ran");
        text.trim().parse().expect("a process id")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A kubectl command on a terminal, with `typed` coming slowly enough for a prompt; None without `script`.
    pub fn typed(&self, line: &str, typed: &[&str]) -> Option<Output> {
        if !crate::process::on_path("script") {
            println!("no script(1): terminals are not tested");
            return None;
        }
        let kubeconfig = self.data_dir().join("kubeconfig");
        let command = format!("kubectl --kubeconfig {} {line}", kubeconfig.display());
        let input =
            typed.iter().map(|line| format!("sleep 1; printf '%s\\n' '{line}'\n")).collect::<String>();
        let words = format!("(sleep 0\n{input}) | script -qec \"{command}\" /dev/null");
        Some(self.machine.run(&["sh", "-c", &words]).env("HOME", self.folder.path()).output())
    }

    /// A kubectl command.
    pub fn kubectl(&self, words: &[&str]) -> Run {
        let kubeconfig = self.data_dir().join("kubeconfig").to_string_lossy().into_owned();
        let mut all = vec!["kubectl", "--kubeconfig", &kubeconfig];
        all.extend(words);
        // Its caches would otherwise outlive the story.
        self.machine.run(&all).env("HOME", self.folder.path())
    }

    /// What a kubectl command prints, its words separated by spaces.
    #[track_caller]
    pub fn k(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.kubectl(&words).output().ok()
    }

    /// Applies a manifest.
    #[track_caller]
    pub fn apply(&self, manifest: &Value) -> String {
        self.kubectl(&["apply", "-f", "-"]).input(manifest.to_string()).output().ok()
    }

    /// An object, as JSON.
    #[track_caller]
    pub fn get(&self, line: &str) -> Value {
        let text = self.k(&format!("get {line} -o json"));
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// Imports an image.
    #[track_caller]
    pub fn import(&self, image: &Image) -> String {
        self.corten(&["image", "import", &image.tar.to_string_lossy()]).output().ok()
    }

    /// Waits until a kubectl command prints `expected`.
    #[track_caller]
    pub fn until(&self, line: &str, expected: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        wait_until(&format!("kubectl {line}: {expected:?}"), || {
            let output = self.kubectl(&words).output();
            match output.stdout.trim_end() == expected {
                true => Ok(()),
                false => Err(format!("{}{}", output.stdout, output.stderr)),
            }
        });
    }

    /// Prints what helps to understand a failure: the end of the server's log, pods and events.
    pub fn explain(&self) {
        let log = std::fs::read_to_string(self.data_dir().join("log/server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        println!("server log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        for line in ["get pods,deploy,rs,svc,endpointslices -A -o wide", "get events -A", "get nodes -o wide"]
        {
            let words: Vec<&str> = line.split_whitespace().collect();
            let output = self.kubectl(&[&words[..], &["--request-timeout=5s"]].concat()).output();
            println!("kubectl {line}\n{}{}", output.stdout, output.stderr);
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.explain();
        }
        if self.data_dir().exists() {
            let output = self.corten(&["down", "--delete"]).output();
            if !output.status.success() {
                println!("corten down --delete: {}{}", output.stdout, output.stderr);
            }
        }
    }
}
