//! Machines of members: a network namespace each, on a bridge in the namespace of the test, and what goes wrong on the
//! way between them.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use testkit::Run;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The namespace of the thread that made it, and of all that this thread starts.
pub struct Network {
    machines: u32,
}

fn ip(line: &str) {
    let words: Vec<&str> = ["ip"].into_iter().chain(line.split(' ')).collect();
    Run::new(&words).output().ok();
}

impl Network {
    /// Moves the calling thread into a new namespace with a bridge.
    pub fn enter() -> Self {
        // SAFETY: unshare takes flags alone; that of the network concerns this thread only.
        let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(left, 0, "a network namespace: {}", std::io::Error::last_os_error());
        ip("link set lo up");
        ip("link add br0 type bridge");
        ip("address add 10.99.0.1/16 dev br0");
        ip("link set br0 up");
        Self { machines: 0 }
    }

    pub fn machine(&mut self) -> Machine {
        self.machines += 1;
        let number = self.machines;
        let name = format!("corten-etcd-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&format!("netns add {name}"));
        let machine = Machine { name, address: format!("10.99.{}.{}", 1 + number / 200, 1 + number % 200) };
        let (name, address) = (&machine.name, &machine.address);
        ip(&format!("link add m{number} type veth peer name eth0 netns {name}"));
        ip(&format!("link set m{number} master br0 up"));
        ip(&format!("-n {name} address add {address}/16 dev eth0"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} link set lo up"));
        machine
    }
}

/// A namespace with an address; removed when dropped.
pub struct Machine {
    name: String,
    pub address: String,
}

impl Machine {
    /// What stands before a command that runs there.
    pub fn prefix(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/run/netns/{}", self.name)]
    }

    /// Loses `percent` of what comes from these addresses; of others nothing.
    pub fn lose(&self, from: &[String], percent: u32) {
        let mut rules = "table inet faults\ndelete table inet faults\n".to_owned();
        if !from.is_empty() {
            let chance =
                if percent < 100 { format!("numgen random mod 100 < {percent} ") } else { String::new() };
            rules.push_str("table inet faults {\n chain input {\n type filter hook input priority 0\n");
            _ = writeln!(rules, "ip saddr {{ {} }} {chance}drop\n }}\n}}", from.join(", "));
        }
        let words: Vec<String> =
            self.prefix().into_iter().chain(["nft", "-f", "-"].map(str::to_owned)).collect();
        Run::new(&words).input(rules).output().ok();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        _ = Run::new(&["ip", "netns", "delete", &self.name]).output();
    }
}
