//! An API server on members that die one after the other.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use testkit::{Run, wait_until};

use crate::members::Members;
use crate::{RECOVERY, on_network};

const ADDRESS: &str = "10.99.0.1";
const PORT: u16 = 6443;
const TOKEN: &str = "faults";
/// Objects that must be made while one member is dead.
const AT_LEAST: usize = 3;

/// It ends when this is dropped.
struct ApiServer {
    child: Child,
    kubeconfig: PathBuf,
}

impl ApiServer {
    fn start(dir: &Path, etcd: &[String]) -> Self {
        let tokens = dir.join("tokens.csv");
        std::fs::write(&tokens, format!("{TOKEN},admin,admin,system:masters\n")).unwrap();
        let kubeconfig = dir.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: \"https://{ADDRESS}:{PORT}\", insecure-skip-tls-verify: true}}}}]\n\
             users: [{{name: c, user: {{token: {TOKEN}}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: c}}}}]\n"
        );
        std::fs::write(&kubeconfig, text).unwrap();
        let mut server = Self { child: Self::spawn(dir, etcd), kubeconfig };
        wait_until("the API server is ready", || {
            // It ends when etcd gives it nothing in time, for whoever keeps it to start it again.
            if server.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                server.child = Self::spawn(dir, etcd);
            }
            let output = kubectl(&server.kubeconfig, &["get", "--raw", "/readyz"]).output();
            let log = || std::fs::read_to_string(dir.join("api.log")).unwrap_or_default();
            if output.stdout.trim() == "ok" { Ok(()) } else { Err(output.stderr + &log()) }
        });
        server
    }

    fn spawn(dir: &Path, etcd: &[String]) -> Child {
        Command::new(testkit::corten_binary())
            .args(["kube-apiserver", &format!("--bind-address={ADDRESS}"), "--authorization-mode=RBAC"])
            .args([&format!("--secure-port={PORT}"), "--service-cluster-ip-range=10.96.0.0/16"])
            .args([
                &format!("--etcd-servers={}", etcd.join(",")),
                "--disable-admission-plugins=ServiceAccount",
            ])
            .arg(format!("--token-auth-file={}", dir.join("tokens.csv").display()))
            .arg(format!("--data-dir={}", dir.join("api").display()))
            .arg(format!("--cert-dir={}", dir.join("certificates").display()))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("api.log")).unwrap())
            .spawn()
            .unwrap()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn kubectl(kubeconfig: &Path, words: &[&str]) -> Run {
    let config = kubeconfig.display().to_string();
    let all: Vec<&str> =
        ["kubectl", "--kubeconfig", &config].into_iter().chain(words.iter().copied()).collect();
    Run::new(&all).env("HOME", kubeconfig.parent().unwrap())
}

#[test]
fn an_api_server_goes_on_while_members_die_in_turn() {
    if testkit::find_program("kubectl").is_none() {
        return println!("skipped, needs kubectl");
    }
    on_network(3, async |mut members: Members| {
        members.start_all();
        members.wait_healthy(RECOVERY);
        let api = ApiServer::start(members.dir.path(), &members.endpoints());
        let (made, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ends, kubeconfig) = (made.clone(), stopped.clone(), api.kubeconfig.clone());
        let writer = std::thread::spawn(move || {
            while !ends.load(Ordering::Acquire) {
                let name = format!("c{}", count.load(Ordering::Acquire));
                wait_until("an object can be made", || {
                    let output = kubectl(&kubeconfig, &["create", "configmap", &name]).output();
                    let done = output.status.success() || output.stderr.contains("already exists");
                    if done { Ok(()) } else { Err(output.stderr) }
                });
                count.fetch_add(1, Ordering::AcqRel);
            }
        });
        for dead in 0..3 {
            // Silence is worse than an end that the others hear of.
            let silent = dead == 0;
            if silent {
                members.signal(dead, libc::SIGSTOP);
            } else {
                members.kill(dead);
            }
            let before = made.load(Ordering::Acquire);
            wait_until("objects are made without a member", || {
                let now = made.load(Ordering::Acquire);
                if now >= before + AT_LEAST { Ok(()) } else { Err(format!("{now} of {before} and more")) }
            });
            if silent {
                members.signal(dead, libc::SIGCONT);
            } else {
                members.start(dead);
            }
            members.wait_healthy(RECOVERY);
        }
        stopped.store(true, Ordering::Release);
        writer.join().unwrap();
        let names = kubectl(&api.kubeconfig, &["get", "configmaps", "-o", "name"]).output().ok();
        let names: Vec<&str> = names.lines().filter(|name| name.starts_with("configmap/c")).collect();
        assert_eq!(names.len(), made.load(Ordering::Acquire), "{names:?}");
        members.check_same();
    });
}
