//! A machine of a story: a network namespace with an address and a default route that leads nowhere.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::Run;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace, removed when dropped.
pub struct Machine {
    name: String,
}

impl Machine {
    /// The machine's own address.
    pub const ADDRESS: &'static str = "198.51.100.10";

    /// Makes a namespace of a unique name.
    pub fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let machine = Self { name: format!("corten-test-{}-{number}", std::process::id()) };
        Run::new(&["ip", "netns", "add", &machine.name]).output().ok();
        for line in [
            "link set lo up",
            "link add eth0 type veth peer name wire",
            "address add 198.51.100.10/24 dev eth0",
            "link set wire up",
            "link set eth0 up",
            "route add default via 198.51.100.1",
        ] {
            let words: Vec<&str> = ["ip"].into_iter().chain(line.split(' ')).collect();
            machine.run(&words).output().ok();
        }
        machine
    }

    /// The name of the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A program to run on this machine.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, words: &[S]) -> Run {
        // `ip netns exec` would mount a /sys of its own, without the cgroups.
        let enter = ["nsenter".to_owned(), format!("--net=/run/netns/{}", self.name)];
        let all: Vec<&std::ffi::OsStr> =
            enter.iter().map(std::ffi::OsStr::new).chain(words.iter().map(AsRef::as_ref)).collect();
        Run::new(&all)
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whatever still runs in the namespace ends with it, by its id.
        let pids = Run::new(&["ip", "netns", "pids", &self.name]).output().stdout;
        for pid in pids.split_whitespace().filter_map(|text| text.parse::<i32>().ok()) {
            // SAFETY: a plain system call; the process was in our own namespace a moment ago.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let _ = Run::new(&["ip", "netns", "delete", &self.name]).output();
    }
}
