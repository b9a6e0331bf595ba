//! Member processes on loopback ports.

use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

struct Member {
    name: String,
    client: String,
    peer: String,
    /// `new` or `existing`.
    state: &'static str,
    child: Option<Child>,
}

/// Three members; they end when this is dropped.
pub struct Members {
    dir: TempDir,
    members: Vec<Member>,
    made: usize,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Drop for Members {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|n| self.kill(n));
    }
}

impl Members {
    pub fn start_three() -> Self {
        let mut this = Self { dir: tempfile::tempdir().unwrap(), members: Vec::new(), made: 0 };
        for _ in 0..3 {
            let member = this.fresh("new");
            this.members.push(member);
        }
        (0..3).for_each(|n| this.start(n));
        this
    }

    fn fresh(&mut self, state: &'static str) -> Member {
        self.made += 1;
        let url = || format!("http://127.0.0.1:{}", free_port());
        Member { name: format!("m{}", self.made), client: url(), peer: url(), state, child: None }
    }

    pub fn running(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|n| self.members[*n].child.is_some()).collect()
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.client.clone()).collect()
    }

    pub fn start(&mut self, n: usize) {
        let all: Vec<String> = self.members.iter().map(|m| format!("{}={}", m.name, m.peer)).collect();
        let member = &mut self.members[n];
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("{}.log", member.name)))
            .unwrap();
        let child = Command::new(testkit::corten_binary())
            .args(["etcd", "--name", &member.name, "--initial-cluster-state", member.state])
            .arg("--data-dir")
            .arg(self.dir.path().join(&member.name))
            .args(["--listen-client-urls", &member.client, "--advertise-client-urls", &member.client])
            .args(["--listen-peer-urls", &member.peer, "--initial-advertise-peer-urls", &member.peer])
            .args(["--initial-cluster", &all.join(",")])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
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

    /// Asks until it succeeds.
    fn until(&self, members: &[usize], args: &[&str]) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let output = self.etcdctl(members, args);
            if output.status.success() {
                return;
            }
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            // It was done by a call that was not answered.
            if why.contains("Member not found") || why.contains("Peer URLs already exists") {
                return;
            }
            assert!(Instant::now() < end, "{args:?}: {why}\n{}", self.logs());
        }
    }

    pub fn etcdctl(&self, members: &[usize], args: &[&str]) -> Output {
        let endpoints: Vec<&str> = members.iter().map(|n| self.members[*n].client.as_str()).collect();
        Command::new("/usr/bin/etcdctl")
            .env_clear()
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &endpoints.join(","), "--command-timeout", "10s"])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn lines(&self, members: &[usize], args: &[&str]) -> Vec<String> {
        let output = self.etcdctl(members, args);
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// A member's id: the second field of its status.
    pub fn id(&self, n: usize) -> String {
        let end = Instant::now() + Duration::from_secs(60);
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

    /// Returns when every member has committed something.
    pub fn wait_healthy(&self, limit: Duration) {
        let end = Instant::now() + limit;
        for n in self.running() {
            while !self.etcdctl(&[n], &["endpoint", "health"]).status.success() {
                assert!(Instant::now() < end, "member {n} is not healthy: {}", self.logs());
            }
        }
    }

    /// A hash over the keys of each member, all at one revision.
    pub fn hashes(&self) -> Vec<String> {
        let hash = |line: String| line.split(", ").nth(1).unwrap_or_default().to_owned();
        self.running().into_iter().flat_map(|n| self.lines(&[n], &["endpoint", "hashkv"])).map(hash).collect()
    }

    fn logs(&self) -> String {
        let read = |member: &Member| {
            let log = std::fs::read_to_string(self.dir.path().join(format!("{}.log", member.name)));
            let log = log.unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            format!("\n== {}\n{}", member.name, tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        self.members.iter().map(read).collect()
    }
}
