//! Pods on a real container runtime: Debian's containerd with runc. Skipped where they are not installed.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, clippy::unwrap_used)]
mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base::TaskScope;
use common::tls::Tls;
use common::{Api, is_ready};
use futures::StreamExt;
use kubelet::Config;
use serde_json::{Value, json};

const IMAGE: &str = "corten.test/busybox:1";
/// Answers every call of the CNI with the same address.
const CNI_PLUGIN: &str = r#"#!/bin/sh
cat >/dev/null
case "$CNI_COMMAND" in
ADD) echo '{"cniVersion":"0.4.0","interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"version":"4","interface":0,"address":"10.88.0.9/24"}]}' ;;
VERSION) echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}' ;;
esac
"#;

struct Containerd {
    process: Child,
    folder: tempfile::TempDir,
    cgroup_root: String,
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Mounts of snapshots and namespaces that are left would keep the folder from going.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let ours = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|m| Path::new(m).starts_with(self.folder.path()));
        for mount in ours.collect::<Vec<_>>().into_iter().rev() {
            let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        }
        for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_groups(&controller.path().join(self.cgroup_root.trim_start_matches('/')));
        }
        remove_groups(&Path::new("/sys/fs/cgroup").join(self.cgroup_root.trim_start_matches('/')));
    }
}

fn remove_groups(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(folder);
}

impl Containerd {
    fn start() -> Option<Self> {
        let there = |program: &str| {
            Command::new("sh")
                .args(["-c", &format!("command -v {program}")])
                .stdout(Stdio::null())
                .status()
                .is_ok_and(|s| s.success())
        };
        let busybox = Path::new("/bin/busybox");
        let wanted = rustix::process::geteuid().is_root()
            && busybox.exists()
            && ["containerd", "ctr", "runc"].iter().all(|p| there(p));
        if !wanted || !is_static(busybox) {
            println!("skipped: needs root, containerd, runc and busybox-static");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("cni/bin")).unwrap();
        std::fs::create_dir_all(path("cni/conf")).unwrap();
        for plugin in ["fake", "loopback"] {
            write_program(&path("cni/bin").join(plugin), CNI_PLUGIN);
        }
        let network = r#"{"cniVersion": "0.4.0", "name": "fake", "plugins": [{"type": "fake"}]}"#;
        std::fs::write(path("cni/conf/10-fake.conflist"), network).unwrap();
        let root = folder.path().display();
        let config = format!(
            r#"version = 2
root = "{root}/root"
state = "{root}/state"
[grpc]
address = "{root}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
restrict_oom_score_adj = true
disable_apparmor = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{root}/cni/bin"
conf_dir = "{root}/cni/conf"
[plugins."io.containerd.internal.v1.opt"]
path = "{root}/opt"
"#
        );
        std::fs::write(path("config.toml"), config).unwrap();
        let log = std::fs::File::create(path("containerd.log")).unwrap();
        let process = Command::new("containerd")
            .arg("--config")
            .arg(path("config.toml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let cgroup_root = format!("/corten-test-{}", std::process::id());
        let containerd = Self { process, folder, cgroup_root };
        containerd.import(busybox);
        Some(containerd)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("c.sock")
    }

    /// Imports an image of busybox alone, which serves as the sandbox's image too.
    fn import(&self, busybox: &Path) {
        let work = self.folder.path().join("image");
        std::fs::create_dir_all(work.join("layer/bin")).unwrap();
        std::fs::copy(busybox, work.join("layer/bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", work.join("layer/bin/sh")).unwrap();
        std::fs::create_dir_all(work.join("layer/tmp")).unwrap();
        let run = |script: &str| {
            assert!(Command::new("sh").arg("-ec").arg(script).current_dir(&work).status().unwrap().success())
        };
        run("tar -C layer -cf layer.tar .");
        let digest = String::from_utf8(
            Command::new("sha256sum").arg("layer.tar").current_dir(&work).output().unwrap().stdout,
        )
        .unwrap();
        let digest = digest.split(' ').next().unwrap();
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({"architecture": arch, "os": "linux", "config": {"Cmd": ["/bin/busybox", "sleep", "100000"], "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]}});
        std::fs::write(work.join("config.json"), config.to_string()).unwrap();
        let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
        std::fs::write(work.join("manifest.json"), manifest.to_string()).unwrap();
        run("tar -cf image.tar manifest.json config.json layer.tar");
        for _ in 0..200 {
            let import = Command::new("ctr")
                .arg("-a")
                .arg(self.socket())
                .args(["-n", "k8s.io", "images", "import"])
                .arg(work.join("image.tar"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if import.unwrap().success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("no import: {}", std::fs::read_to_string(self.folder.path().join("containerd.log")).unwrap());
    }

    fn kubelet(&self, api: &Api, tls: &Tls) -> TaskScope {
        let mut config = Config::new("node", self.folder.path().join("kubelet"), self.socket());
        config.pod_logs_dir = self.folder.path().join("logs");
        config.container_logs_dir = Some(self.folder.path().join("links"));
        config.node_ip = Some("127.0.0.1".parse().unwrap());
        config.cgroup_root = self.cgroup_root.clone();
        config.eviction_hard.clear();
        tls.configure(&mut config);
        let scope = TaskScope::new("test");
        let run = kubelet::run(config, api.client(), scope.child("kubelet"));
        scope.spawn(async move { run.await.unwrap() });
        scope
    }
}

fn is_static(program: &Path) -> bool {
    // A dynamic program names its loader.
    let bytes = std::fs::read(program).unwrap_or_default();
    !bytes.windows(8).take(4096).any(|w| w == b"/ld-linu" || w == b"/lib64/l")
}

fn write_program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

fn pod(script: &str) -> Value {
    json!({"nodeName": "node", "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [{
        "name": "c", "image": IMAGE, "command": ["/bin/sh", "-c", script],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}}}]})
}

fn put(api: &Api, name: &str, spec: Value) -> String {
    let path = format!("/api/v1/namespaces/default/pods/{name}");
    api.put(&path, json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": spec}));
    path
}

async fn connect(tls: &Tls) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let identity = Some(tls.issue("admin", pki::Usage::Client));
    let config = pki::client_config(&[tls.authority_file()], identity, Vec::new()).unwrap();
    let tcp = tokio::net::TcpStream::connect(tls.address).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap()
}

/// What a command in the container `c` of the pod `server` writes.
async fn websocket_exec(tls: &Tls, script: &str) -> String {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let script = script.replace(' ', "+");
    let url = format!(
        "wss://{}/exec/default/server/c?command=/bin/sh&command=-c&command={script}&output=1&error=1",
        tls.address
    );
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "v4.channel.k8s.io".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::client_async(request, connect(tls).await).await.unwrap();
    let mut output = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        let data = message.into_data();
        if data.first() == Some(&1) {
            output.extend_from_slice(&data[1..]);
        }
    }
    String::from_utf8(output).unwrap()
}

/// The head of the answer to a SPDY upgrade.
async fn spdy_exec_answer(tls: &Tls) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = connect(tls).await;
    let head = "POST /exec/default/server/c?command=true&output=1 HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\n\
        Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_run_on_containerd() {
    let Some(containerd) = Containerd::start() else { return };
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    let (api, tls) = (Api::new(), Tls::new());
    let scope = containerd.kubelet(&api, &tls);
    let mut spec = pod("echo $HOSTNAME; cat /etc/hosts; trap exit TERM; while :; do busybox sleep 1; done");
    spec["containers"][0]["readinessProbe"] =
        json!({"exec": {"command": ["/bin/sh", "-c", "true"]}, "periodSeconds": 1});
    let server = put(&api, "server", spec);
    let running = api.until(&server, |p| p.is_some_and(is_ready)).await.unwrap();
    assert_eq!(running["status"]["podIP"], "10.88.0.9");
    let id = running["status"]["containerStatuses"][0]["containerID"].as_str().unwrap().to_owned();
    assert!(id.starts_with("containerd://"));
    let uid = running["metadata"]["uid"].as_str().unwrap();
    let memory = Path::new("/sys/fs/cgroup/memory")
        .join(format!("{}/kubepods/burstable/pod{uid}", &containerd.cgroup_root[1..]));
    if memory.exists() {
        let limit = std::fs::read_to_string(memory.join("memory.limit_in_bytes")).unwrap();
        assert_eq!(limit.trim(), (64 << 20).to_string());
    }
    assert_eq!(websocket_exec(&tls, "echo from the inside").await, "from the inside\n");
    assert!(spdy_exec_answer(&tls).await.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
    let failing = put(&api, "failing", pod("echo the end >&2; exit 3"));
    let failed = api.until(&failing, |p| p.is_some_and(|p| p["status"]["phase"] == "Failed")).await.unwrap();
    let ended = &failed["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&ended["exitCode"], &ended["reason"], &ended["message"]),
        (&json!(3), &json!("Error"), &json!("the end\n"))
    );
    // Another kubelet takes over what runs.
    assert!(scope.shutdown(Duration::from_secs(10)).await);
    let scope = containerd.kubelet(&api, &tls);
    let last = put(&api, "last", pod("cat /tmp/none || echo saved > /dev/termination-log"));
    let done = api.until(&last, |p| p.is_some_and(|p| p["status"]["phase"] == "Succeeded")).await.unwrap();
    assert_eq!(done["status"]["containerStatuses"][0]["state"]["terminated"]["message"], "saved\n");
    let still = api.get(&server).unwrap();
    assert_eq!(still["status"]["containerStatuses"][0]["containerID"], id.as_str());
    for path in [&server, &failing, &last] {
        api.delete(path, 1);
    }
    for path in [&server, &failing, &last] {
        api.until(path, |p| p.is_none()).await;
    }
    assert!(!memory.exists());
    assert!(scope.shutdown(Duration::from_secs(10)).await);
}
