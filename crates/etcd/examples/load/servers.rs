//! Servers of either kind as processes on loopback, each with a data directory of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proto::etcd::rpc::RangeRequest;
use proto::etcd::rpc::kv_client::KvClient;
use tonic::transport::Channel;

/// How long servers may take to answer.
const START: Duration = Duration::from_secs(120);
/// Between two attempts to reach a server that starts.
const RETRY: Duration = Duration::from_millis(5);
/// Ticks of a second in `/proc`.
const TICKS: f64 = 100.0;

/// Whose server.
pub enum Kind {
    Corten(PathBuf),
    Debian,
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Corten(_) => "Corten",
            Self::Debian => "etcd (Debian)",
        }
    }

    pub fn is_there(&self) -> bool {
        let there = match self {
            Self::Corten(binary) => binary.is_file(),
            Self::Debian => PathBuf::from("/usr/bin/etcd").is_file(),
        };
        if !there {
            eprintln!("left out, as it is not installed: {}", self.name());
        }
        there
    }

    fn command(&self) -> Command {
        match self {
            Self::Corten(binary) => {
                let mut command = Command::new(binary);
                command.arg("etcd");
                command
            }
            Self::Debian => {
                let mut command = Command::new("/usr/bin/etcd");
                command.args(["--logger", "zap", "--log-level", "error"]);
                command
            }
        }
    }
}

struct Member {
    args: Vec<String>,
    child: Option<Child>,
}

/// A cluster; it and its files are gone when this is dropped.
pub struct Servers<'k> {
    kind: &'k Kind,
    members: Vec<Member>,
    pub endpoints: Vec<String>,
    folder: PathBuf,
}

fn free_url() -> String {
    format!("http://127.0.0.1:{}", testnet::reserve_port())
}

impl<'k> Servers<'k> {
    pub async fn start(kind: &'k Kind, count: usize) -> Self {
        let folder =
            std::env::temp_dir().join(format!("corten-load-{}-{}", std::process::id(), fastrand::u64(..)));
        let urls: Vec<(String, String)> = (0..count).map(|_| (free_url(), free_url())).collect();
        let all: Vec<String> = urls.iter().enumerate().map(|(n, (_, peer))| format!("m{n}={peer}")).collect();
        let member = |(n, (client, peer)): (usize, &(String, String))| {
            let data = folder.join(format!("m{n}"));
            let args = [
                "--name".to_owned(),
                format!("m{n}"),
                format!("--data-dir={}", data.display()),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={}", all.join(",")),
            ];
            Member { args: args.into(), child: None }
        };
        fs::create_dir_all(&folder).unwrap();
        let members = urls.iter().enumerate().map(member).collect();
        let endpoints = urls.iter().map(|(client, _)| client.clone()).collect();
        let mut this = Self { kind, members, endpoints, folder };
        this.start_again().await;
        this
    }

    /// Starts all members and waits until each answers.
    pub async fn start_again(&mut self) {
        for (n, member) in self.members.iter_mut().enumerate() {
            let log = fs::File::create(self.folder.join(format!("m{n}.log"))).unwrap();
            let mut command = self.kind.command();
            let command = command.args(&member.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            member.child = Some(command.spawn().unwrap());
        }
        let until = Instant::now() + START;
        for endpoint in &self.endpoints {
            let mut client = KvClient::new(self.channel(endpoint));
            let key = bytes::Bytes::from_static(b"x");
            while client.range(RangeRequest { key: key.clone(), ..RangeRequest::default() }).await.is_err() {
                assert!(Instant::now() < until, "{} does not answer", self.kind.name());
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    pub fn stop(&mut self) {
        for member in &mut self.members {
            let Some(mut child) = member.child.take() else { continue };
            _ = Command::new("kill").arg(child.id().to_string()).status();
            _ = child.wait();
        }
    }

    pub fn channel(&self, endpoint: &str) -> Channel {
        etcd::connect(endpoint, &[], None).unwrap()
    }

    fn processes(&self) -> impl Iterator<Item = u32> {
        self.members.iter().filter_map(|member| member.child.as_ref()).map(Child::id)
    }

    /// What all members together wrote to disks so far.
    pub fn written_bytes(&self) -> u64 {
        self.processes().map(|id| field(&format!("/proc/{id}/io"), "write_bytes:")).sum()
    }

    /// Processor time that all members took so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let of_one = |id: u32| {
            let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // After the name, which may hold anything: user and system time are the 12th and 13th field.
            let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
            fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
        };
        self.processes().map(of_one).sum()
    }

    /// Memory of all members together.
    pub fn resident_bytes(&self) -> u64 {
        self.processes().map(|id| field(&format!("/proc/{id}/status"), "VmRSS:") * 1024).sum()
    }
}

/// The number after `name` in a file of `/proc`.
fn field(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

impl Drop for Servers<'_> {
    fn drop(&mut self) {
        self.stop();
        _ = fs::remove_dir_all(&self.folder);
    }
}
