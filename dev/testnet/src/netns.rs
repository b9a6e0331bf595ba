//! Network namespaces that go with a value.

use std::path::PathBuf;
use std::process::Command;

/// A network namespace with its loopback device up; it is gone when this is dropped.
#[derive(Debug)]
pub struct Netns(String);

impl Netns {
    /// One whose name tells `what`, which no other of this process has. None, with a word about it, where none can be
    /// made.
    pub fn new(what: &str) -> Option<Self> {
        let name = format!("corten-test-{}-{what}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        if made.is_ok_and(|output| output.status.success()) {
            let this = Self(name);
            this.ip("link set lo up");
            return Some(this);
        }
        println!("skipped: no network namespace can be made here");
        None
    }

    /// As `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }

    /// What `ip` prints of it.
    ///
    /// # Panics
    /// If the command fails.
    pub fn ip(&self, command: &str) -> String {
        run(Command::new("ip").args(["-n", &self.0]).args(command.split_whitespace()))
    }

    /// What a program prints in it.
    ///
    /// # Panics
    /// If the command fails.
    pub fn run(&self, command: &str) -> String {
        run(Command::new("ip").args(["netns", "exec", &self.0]).args(command.split_whitespace()))
    }

    /// Does `work` in it, on a thread of its own.
    ///
    /// # Panics
    /// If it cannot be entered.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netlink::netns::within(&self.path(), work).unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether `nft` is installed; says so if not.
pub fn has_nft() -> bool {
    let here = Command::new("nft").arg("--version").output().is_ok();
    if !here {
        println!("skipped: nft is not installed");
    }
    here
}
