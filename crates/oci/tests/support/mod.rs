//! One test's containers, made through the command line, with all that they leave removed at its end.

pub mod bundle;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// The runtime's program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_corten-oci");

/// A directory with bundles and state, and a cgroup.
pub struct Fixture {
    dir: tempfile::TempDir,
    busybox: PathBuf,
    /// The cgroup that all containers are below.
    pub cgroup: String,
}

impl Fixture {
    /// `None` if this machine cannot run the test.
    pub fn new() -> Option<Self> {
        let busybox = bundle::busybox()?;
        Some(Self { dir: tempfile::tempdir().unwrap(), busybox, cgroup: bundle::unique("oci") })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn rootfs(&self, id: &str) -> PathBuf {
        self.path(id).join("rootfs")
    }

    /// Makes a bundle named `id` that runs a shell script, its configuration changed by `edit`.
    pub fn bundle(&self, id: &str, script: &str, edit: impl FnOnce(&mut Value)) {
        self.bundle_of(id, &["sh", "-c", script], edit);
    }

    pub fn bundle_of(&self, id: &str, args: &[&str], edit: impl FnOnce(&mut Value)) {
        if !self.rootfs(id).exists() {
            bundle::make_rootfs(&self.busybox, &self.rootfs(id));
        }
        let mut spec = bundle::spec(args, &self.cgroup, id);
        edit(&mut spec);
        std::fs::write(self.path(id).join("config.json"), spec.to_string()).unwrap();
    }

    /// The runtime's command with these arguments.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("--root").arg(self.path("root")).args(args).stdin(Stdio::null());
        command
    }

    pub fn oci(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command of the runtime that must succeed, with output to nowhere.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.oci(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs one that must fail; its message.
    pub fn fails(&self, args: &[&str]) -> String {
        let output = self.oci(args);
        assert!(!output.status.success(), "{args:?} succeeded: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// Creates a container whose output goes to the file `ID.out`.
    pub fn create(&self, id: &str) {
        let out = std::fs::File::create(self.path(&format!("{id}.out"))).unwrap();
        let mut command = self.command(&["create", "--bundle", &show(&self.path(id)), id]);
        let status = command.stdout(out.try_clone().unwrap()).stderr(out).status().unwrap();
        assert!(status.success(), "{}", std::fs::read_to_string(self.path(&format!("{id}.out"))).unwrap());
    }

    /// Runs a bundle to its end.
    pub fn run(&self, id: &str) -> Output {
        self.oci(&["run", "--bundle", &show(&self.path(id)), id])
    }

    /// Runs a script in a container of the usual configuration changed by `edit`; its output.
    pub fn output(&self, id: &str, script: &str, edit: impl FnOnce(&mut Value)) -> String {
        self.bundle(id, script, edit);
        let output = self.run(id);
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    pub fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.ok(&["state", id])).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.path("root")).into_iter().flatten().flatten() {
            let _ = self.oci(&["delete", "--force", &entry.file_name().to_string_lossy()]);
        }
        bundle::remove_cgroups(&self.cgroup);
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

pub fn show(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Appends to a list, which may not be there yet.
pub fn push(list: &mut Value, value: Value) {
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().unwrap().push(value);
}

/// Waits for the end of a container's first process.
pub fn wait_stopped(f: &Fixture, id: &str) {
    let pid = f.state(id)["pid"].as_i64().unwrap();
    while pid != 0 && f.state(id)["status"] != "stopped" {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
