//! The machines of a story: network namespaces with an address each, alone or on a network of their own.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::Run;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A network namespace, removed when dropped.
pub struct Machine {
    name: String,
    address: String,
}

fn namespace() -> String {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("corten-test-{}-{number}", std::process::id());
    Run::new(&["ip", "netns", "add", &name]).output().ok();
    name
}

fn delete(name: &str) {
    // Whatever still runs in the namespace ends with it, by its id.
    let pids = Run::new(&["ip", "netns", "pids", name]).output().stdout;
    for pid in pids.split_whitespace().filter_map(|text| text.parse::<i32>().ok()) {
        // SAFETY: a plain system call; the process was in our own namespace a moment ago.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    let _ = Run::new(&["ip", "netns", "delete", name]).output();
}

/// A network of machines: a namespace with a bridge. Removed when dropped.
pub struct Lan {
    name: String,
}

impl Lan {
    /// Makes one without machines.
    pub fn new() -> Self {
        let lan = Self { name: namespace() };
        lan.ip("link set lo up");
        lan.ip("link add lan type bridge");
        lan.ip("address add 198.51.100.1/24 dev lan");
        lan.ip("link set lan up");
        lan
    }

    fn ip(&self, line: &str) {
        let words: Vec<&str> = ["ip", "-n", &self.name].into_iter().chain(line.split(' ')).collect();
        Run::new(&words).output().ok();
    }

    /// A machine with the address 198.51.100.`host`, from 10 on.
    pub fn machine(&self, host: u8) -> Machine {
        let machine = Machine { name: namespace(), address: format!("198.51.100.{host}") };
        let name = &machine.name;
        self.ip(&format!("link add port{host} type veth peer name eth0 netns {name}"));
        self.ip(&format!("link set port{host} master lan up"));
        machine.set_up();
        machine
    }

    /// Takes a machine's cable out.
    pub fn cut(&self, host: u8) {
        self.ip(&format!("link set port{host} nomaster"));
    }

    /// Puts it back in.
    pub fn heal(&self, host: u8) {
        self.ip(&format!("link set port{host} master lan"));
    }
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

impl Machine {
    /// The machine's own address.
    pub const ADDRESS: &'static str = "198.51.100.10";

    /// Makes a namespace of a unique name.
    pub fn new() -> Self {
        let machine = Self { name: namespace(), address: Self::ADDRESS.to_owned() };
        machine.ip("link add eth0 type veth peer name wire");
        machine.ip("link set wire up");
        machine.set_up();
        machine
    }

    fn ip(&self, line: &str) {
        let words: Vec<&str> = ["ip"].into_iter().chain(line.split(' ')).collect();
        self.run(&words).output().ok();
    }

    fn set_up(&self) {
        self.ip("link set lo up");
        self.ip(&format!("address add {}/24 dev eth0", self.address));
        self.ip("link set eth0 up");
        self.ip("route add default via 198.51.100.1");
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
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
        delete(&self.name);
    }
}
