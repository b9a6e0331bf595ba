//! The binary as test frameworks for controllers start it: `etcd` and `kube-apiserver` by their names, with the flags
//! that controller-runtime's envtest gives them.

#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client::RemoteConfig;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::PostParams;
use pki::{Authority, CertificateRequest, KeyPairFiles, Usage};
use tempfile::TempDir;

/// Control planes at once.
const TOGETHER: usize = 3;
/// Longest time for one to be ready on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct ControlPlane {
    folder: TempDir,
    port: u16,
    _etcd: Running,
    apiserver: Running,
}

fn start(folder: &Path, name: &str, flags: &[String]) -> Running {
    let binary = folder.join(name);
    symlink(env!("CARGO_BIN_EXE_corten"), &binary).unwrap();
    let log = std::fs::File::create(folder.join(format!("{name}.log"))).unwrap();
    let mut command = Command::new(binary);
    command.args(flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Running(command.spawn().unwrap())
}

fn request(name: &str, groups: &[&str], usage: Usage) -> CertificateRequest {
    CertificateRequest {
        common_name: name.to_owned(),
        organizations: groups.iter().map(|g| (*g).to_owned()).collect(),
        dns_names: vec!["localhost".to_owned()],
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        usage,
        validity: Duration::from_secs(7 * 24 * 3600),
    }
}

impl ControlPlane {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let (etcd_port, port) = (testnet::reserve_port(), testnet::reserve_port());
        let url = format!("http://127.0.0.1:{etcd_port}");
        let etcd = start(
            at,
            "etcd",
            &[
                format!("--advertise-client-urls={url}"),
                format!("--data-dir={}", at.join("etcd-data").display()),
                format!("--listen-client-urls={url}"),
                "--listen-peer-urls=http://localhost:0".to_owned(),
                "--unsafe-no-fsync=true".to_owned(),
            ],
        );
        let (clients, _) = Authority::generate("envtest-environment").unwrap();
        std::fs::write(at.join("client-cert-auth-ca.crt"), clients.certificate_pem()).unwrap();
        let admin = request("default", &["system:masters"], Usage::Client);
        clients.issue_to(&admin, &at.join("admin.crt"), &at.join("admin.key")).unwrap();
        let (servers, _) = Authority::generate("envtest-environment").unwrap();
        std::fs::write(at.join("ca.crt"), servers.certificate_pem()).unwrap();
        let own = request("127.0.0.1", &[], Usage::Server);
        servers.issue_to(&own, &at.join("apiserver.crt"), &at.join("apiserver.key")).unwrap();
        // The public half of the key comes as a certificate.
        let signer = request("sa-signer", &[], Usage::Server);
        servers.issue_to(&signer, &at.join("sa-signer.crt"), &at.join("sa-signer.key")).unwrap();
        let file = |name: &str| at.join(name).display().to_string();
        let apiserver = start(
            at,
            "kube-apiserver",
            &[
                "--advertise-address=127.0.0.1".to_owned(),
                "--allow-privileged=true".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
                format!("--cert-dir={}", at.display()),
                format!("--client-ca-file={}", file("client-cert-auth-ca.crt")),
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                format!("--etcd-servers={url}"),
                format!("--secure-port={port}"),
                format!("--service-account-issuer=https://127.0.0.1:{port}/"),
                format!("--service-account-key-file={}", file("sa-signer.crt")),
                format!("--service-account-signing-key-file={}", file("sa-signer.key")),
                "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
                "-v=2".to_owned(),
            ],
        );
        Self { folder, port, _etcd: etcd, apiserver }
    }

    fn client(&self) -> kube::Client {
        let file = |name: &str| -> PathBuf { self.folder.path().join(name) };
        client::remote(RemoteConfig {
            server: format!("https://127.0.0.1:{}", self.port),
            authorities: vec![file("ca.crt")],
            identity: Some(KeyPairFiles { certificate: file("admin.crt"), key: file("admin.key") }),
            ..RemoteConfig::default()
        })
        .unwrap()
    }

    fn logs(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        format!("etcd:\n{}\nkube-apiserver:\n{}", read("etcd.log"), read("kube-apiserver.log"))
    }

    async fn ready(&self) {
        let until = std::time::Instant::now() + PATIENCE;
        let namespaces: Api<Namespace> = Api::all(self.client());
        loop {
            match namespaces.get("kube-system").await {
                Ok(_) => return,
                Err(_) if std::time::Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("not ready: {error}\n{}", self.logs()),
            }
        }
    }
}

// Several threads: connections must go on while a process is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_planes_are_started_as_envtest_does() {
    let planes: Vec<ControlPlane> = (0..TOGETHER).map(|_| ControlPlane::start()).collect();
    for (i, plane) in planes.iter().enumerate() {
        plane.ready().await;
        let maps: Api<ConfigMap> = Api::namespaced(plane.client(), "default");
        let mut map = ConfigMap::default();
        map.metadata.name = Some(format!("of-{i}"));
        maps.create(&PostParams::default(), &map).await.unwrap();
        let namespaces: Api<Namespace> = Api::all(plane.client());
        assert_eq!(namespaces.list(&Default::default()).await.unwrap().items.len(), 4);
    }
    for (i, plane) in planes.iter().enumerate() {
        let maps: Api<ConfigMap> = Api::namespaced(plane.client(), "default");
        assert!(maps.get(&format!("of-{i}")).await.is_ok());
        assert!(maps.get(&format!("of-{}", i + 1)).await.is_err(), "each has its own store");
    }
    for mut plane in planes {
        let pid = nix::unistd::Pid::from_raw(plane.apiserver.0.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = plane.apiserver.0.wait().unwrap();
        assert!(status.success(), "{status}\n{}", plane.logs());
    }
}

#[test]
fn flags_are_known_ignored_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("kube-apiserver");
    symlink(env!("CARGO_BIN_EXE_corten"), &binary).unwrap();
    let fails = |flag: &str| {
        let data = format!("--data-dir={}", folder.path().join("data").display());
        let output = Command::new(&binary).args([flag, data.as_str()]).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success(), "{flag}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(fails("--tracing-config-file=x").contains("--tracing-config-file is not implemented"));
    assert!(fails("--no-such-flag").contains("no-such-flag"));
    assert!(fails("--feature-gates=NoSuchGate=true").contains("unrecognized feature gate: NoSuchGate"));
    assert!(fails("--oidc-issuer-url=https://x").contains("--oidc-client-id"));
    let help = Command::new(&binary).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for flag in ["--etcd-servers", "--service-account-issuer", "--audit-policy-file", "--oidc-issuer-url"] {
        assert!(help.contains(flag), "{flag}");
    }
    let kubectl = folder.path().join("kubectl");
    symlink(env!("CARGO_BIN_EXE_corten"), &kubectl).unwrap();
    let said = Command::new(&kubectl).arg("get").output().unwrap();
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("kubectl"));
}
