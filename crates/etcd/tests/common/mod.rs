//! Two servers side by side: ours in this process, and Debian's etcd.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{TaskScope, system_clock};
use etcd::{Listen, Options, Server};
use store::{Embedded, Member, MemberId, SingleMember};

/// A server that clients can reach; it ends when this is dropped.
pub struct Running {
    pub endpoint: String,
    _child: Option<Ended>,
    scope: Option<TaskScope>,
    _folder: Option<tempfile::TempDir>,
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(scope) = &self.scope {
            scope.cancel();
        }
    }
}

/// Whether a program is installed; says so if not.
pub fn installed(program: &str) -> bool {
    let found = std::path::Path::new("/usr/bin").join(program).is_file();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Our server over a store in memory.
pub async fn ours() -> Running {
    ours_with(Options::default(), Embedded::in_memory(system_clock()).unwrap()).await
}

pub async fn ours_with(options: Options, store: Embedded) -> Running {
    ours_over(options, store, None).await
}

/// With or without TLS.
pub async fn ours_over(options: Options, store: Embedded, tls: Option<Arc<rustls::ServerConfig>>) -> Running {
    let scope = TaskScope::new("test");
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listen = Listen::bind("127.0.0.1:0", tls).await.unwrap();
    let endpoint = format!("{scheme}://{}", listen.address().unwrap());
    let member = Member {
        id: MemberId(0x8e9e_05c5_2164_694d),
        name: "default".to_owned(),
        peer_urls: vec!["http://localhost:2380".to_owned()],
        client_urls: vec![endpoint.clone()],
        is_learner: false,
    };
    let cluster = SingleMember::new(store.clone(), 7, member);
    let server = Server::new(Arc::new(store), cluster, options, &scope);
    scope.spawn(etcd::serve(server, listen, scope.clone()));
    Running { endpoint, _child: None, scope: Some(scope), _folder: None }
}

/// Debian's etcd on a fresh data directory, ready.
pub fn debian(more: &[&str]) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = format!("http://127.0.0.1:{}", testnet::reserve_port());
    let peer = format!("http://127.0.0.1:{}", testnet::reserve_port());
    let child = Command::new("/usr/bin/etcd")
        .env_clear()
        .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .args(["--log-level", "error", "--logger", "zap"])
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child = Ended(child);
    let until = Instant::now() + Duration::from_secs(30);
    while !etcdctl(&endpoint, &["endpoint", "health"]).1 {
        assert!(Instant::now() < until, "Debian's etcd does not answer");
    }
    Running { endpoint, _child: Some(child), scope: None, _folder: Some(folder) }
}

/// What `etcdctl` prints on both streams, and whether it succeeded.
pub fn etcdctl(endpoint: &str, args: &[&str]) -> (String, bool) {
    let output = Command::new("/usr/bin/etcdctl")
        .env_clear()
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint, "--command-timeout", "20s"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&text).into_owned(), output.status.success())
}

/// The same with a text on standard input.
pub fn etcdctl_with(endpoint: &str, args: &[&str], input: &str) -> String {
    use std::io::Write;
    let mut child = Command::new("/usr/bin/etcdctl")
        .env_clear()
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", endpoint])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}
