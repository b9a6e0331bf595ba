//! Member processes on loopback ports, or each on a machine of a network.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::disk::{Faults, Shim};
use crate::network::{Machine, Network};

/// How long a command is asked again until it succeeds.
const PATIENCE: Duration = Duration::from_secs(90);
/// Lines of each member's log that a failure shows.
const LOG_LINES: usize = 15;

pub struct Member {
    pub name: String,
    pub client: String,
    pub peer: String,
    /// `new` or `existing`.
    pub state: &'static str,
    pub data_dir: PathBuf,
    /// Further arguments of the next start.
    pub extra: Vec<String>,
    pub machine: Option<Machine>,
    pub faults: Faults,
    child: Option<Child>,
}

/// The members of a cluster; they end when this is dropped.
pub struct Members {
    pub dir: TempDir,
    pub members: Vec<Member>,
    network: Option<Network>,
    shim: Option<Shim>,
    made: usize,
}

impl Drop for Members {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|n| self.kill(n));
    }
}

impl Members {
    /// Members that were not started yet.
    pub fn new(count: usize, network: Option<Network>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shim = Shim::compile(dir.path());
        let mut this = Self { dir, members: Vec::new(), network, shim, made: 0 };
        for _ in 0..count {
            let member = this.fresh("new");
            this.members.push(member);
        }
        this
    }

    pub fn start_all(&mut self) {
        (0..self.members.len()).for_each(|n| self.start(n));
    }

    /// Whether disks and clocks can be broken.
    pub fn has_shim(&self) -> bool {
        self.shim.is_some()
    }

    pub fn fresh(&mut self, state: &'static str) -> Member {
        self.made += 1;
        let name = format!("m{}", self.made);
        let machine = self.network.as_mut().map(Network::machine);
        let url = |port: u16| match &machine {
            Some(machine) => format!("http://{}:{port}", machine.address),
            None => format!("http://127.0.0.1:{}", testnet::reserve_port()),
        };
        let (client, peer) = (url(2379), url(2380));
        let data_dir = self.dir.path().join(&name);
        let faults = Faults::new(self.dir.path().join(format!("{name}.faults")));
        Member { name, client, peer, state, data_dir, extra: Vec::new(), machine, faults, child: None }
    }

    pub fn running(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|n| self.members[*n].child.is_some()).collect()
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    pub fn initial_cluster(&self) -> String {
        let all: Vec<String> = self.members.iter().map(|m| format!("{}={}", m.name, m.peer)).collect();
        all.join(",")
    }

    pub fn start(&mut self, n: usize) {
        let all = self.initial_cluster();
        let member = &mut self.members[n];
        let log = self.dir.path().join(format!("{}.log", member.name));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let binary = testkit::corten_binary();
        let mut command = match &member.machine {
            Some(machine) => {
                let [enter, net] = machine.prefix();
                let mut command = Command::new(enter);
                command.arg(net).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        if let Some(shim) = &self.shim {
            member.faults.load_into(&mut command, shim);
        }
        let child = command
            .args(["etcd", "--name", &member.name, "--initial-cluster-state", member.state])
            .arg("--data-dir")
            .arg(&member.data_dir)
            .args(["--listen-client-urls", &member.client, "--advertise-client-urls", &member.client])
            .args(["--listen-peer-urls", &member.peer, "--initial-advertise-peer-urls", &member.peer])
            .args(["--initial-cluster", &all])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .args(std::mem::take(&mut member.extra))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        member.child = Some(child);
    }

    pub fn signal(&self, n: usize, signal: i32) {
        let Some(child) = &self.members[n].child else { return };
        // SAFETY: kill has no preconditions; the process is ours and was not waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
    }

    pub fn kill(&mut self, n: usize) {
        if let Some(mut child) = self.members[n].child.take() {
            _ = child.kill();
            _ = child.wait();
        }
    }

    /// Ends a member in order.
    pub fn stop(&mut self, n: usize) {
        self.signal(n, libc::SIGTERM);
        if let Some(mut child) = self.members[n].child.take() {
            assert!(child.wait().unwrap().success(), "a member did not end in order: {}", self.logs());
        }
    }

    /// Takes a member out, as one whose machine is lost, and has a new one take its place.
    pub fn replace(&mut self, n: usize) {
        let id = self.id(n);
        self.kill(n);
        let others: Vec<usize> = self.running();
        self.until(&others, &["member", "remove", &id]);
        let member = self.fresh("existing");
        let url = format!("--peer-urls={}", member.peer);
        self.until(&others, &["member", "add", &member.name.clone(), &url]);
        self.members[n] = member;
        self.start(n);
    }

    /// Asks until it succeeds; gives what was printed.
    pub fn until(&self, members: &[usize], args: &[&str]) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let output = self.etcdctl(members, args);
            if output.status.success() {
                return String::from_utf8_lossy(&output.stdout).into_owned();
            }
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            // It was done by a call that was not answered.
            if why.contains("ember not found") || why.contains("Peer URLs already exists") {
                return String::new();
            }
            assert!(Instant::now() < end, "{args:?}: {why}\n{}", self.logs());
        }
    }

    pub fn etcdctl(&self, members: &[usize], args: &[&str]) -> Output {
        self.etcdctl_command(members, args).output().unwrap()
    }

    pub fn etcdctl_command(&self, members: &[usize], args: &[&str]) -> Command {
        let endpoints: Vec<&str> = members.iter().map(|n| self.members[*n].client.as_str()).collect();
        let mut command = Command::new("/usr/bin/etcdctl");
        command
            .env_clear()
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &endpoints.join(","), "--command-timeout", "10s"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// What etcdctl complains about, when it must.
    #[track_caller]
    pub fn refused(&self, n: usize, args: &[&str]) -> String {
        let output = self.etcdctl(&[n], args);
        assert!(!output.status.success(), "{args:?} should have been refused");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn lines(&self, members: &[usize], args: &[&str]) -> Vec<String> {
        let output = self.etcdctl(members, args);
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// A member's id: the second field of its status.
    pub fn id(&self, n: usize) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.lines(&[n], &["endpoint", "status"]);
            if let Some(id) = status.first().and_then(|line| line.split(", ").nth(1)) {
                return id.to_owned();
            }
            assert!(Instant::now() < end, "no status of member {n}: {}", self.logs());
        }
    }

    pub fn leader(&self) -> Option<usize> {
        let leads = |n: &usize| {
            let status = self.lines(&[*n], &["endpoint", "status"]);
            status.first().is_some_and(|line| line.split(", ").nth(4) == Some("true"))
        };
        self.running().into_iter().find(leads)
    }

    /// Returns when every running member has committed something.
    pub fn wait_healthy(&self, limit: Duration) {
        let end = Instant::now() + limit;
        for n in self.running() {
            while !self.etcdctl(&[n], &["endpoint", "health"]).status.success() {
                assert!(Instant::now() < end, "member {n} is not healthy: {}", self.logs());
            }
        }
    }

    /// Compares a hash over the keys of each running member, all at one revision. Nothing may be written meanwhile.
    pub fn check_same(&self) {
        let hash = |line: String| line.split(", ").nth(1).unwrap_or_default().to_owned();
        let one = |n| {
            // A linearizable read first: the member has all that the others have.
            self.until(&[n], &["get", "none"]);
            hash(self.until(&[n], &["endpoint", "hashkv"]))
        };
        let hashes: Vec<String> = self.running().into_iter().map(one).collect();
        let same = !hashes[0].is_empty() && hashes.iter().all(|hash| *hash == hashes[0]);
        assert!(same, "members differ: {hashes:?}{}", self.logs());
    }

    /// All members out of reach of each other, but for those in one group.
    pub fn separate(&self, groups: &[&[usize]]) {
        for group in groups {
            let others: Vec<String> =
                groups.iter().filter(|other| other != &group).flat_map(|g| self.addresses(g)).collect();
            group.iter().for_each(|n| self.lose(*n, &others, 100));
        }
    }

    pub fn addresses(&self, members: &[usize]) -> Vec<String> {
        let machines = members.iter().filter_map(|n| self.members[*n].machine.as_ref());
        machines.map(|machine| machine.address.clone()).collect()
    }

    pub fn lose(&self, n: usize, from: &[String], percent: u32) {
        if let Some(machine) = &self.members[n].machine {
            machine.lose(from, percent);
        }
    }

    /// Ends everything that is wrong but clocks.
    pub fn heal(&self) {
        for (n, member) in self.members.iter().enumerate() {
            self.lose(n, &[], 0);
            member.faults.clear();
        }
    }

    pub fn logs(&self) -> String {
        let read = |member: &Member| {
            let log = std::fs::read_to_string(self.dir.path().join(format!("{}.log", member.name)));
            let log = log.unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
            format!("\n== {}\n{}", member.name, tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        self.members.iter().map(read).collect()
    }
}
