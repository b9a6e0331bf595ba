//! A runtime in a temporary directory, images made from busybox, and registries on loopback.

#![allow(dead_code, clippy::unwrap_used)]

pub mod image;
pub mod pod;
pub mod registry;
pub mod spdy;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::TaskScope;
use cri::{CniConfig, Config, RegistryConfig};
use hyper_util::rt::TokioIo;
use proto::corten::image_v1::image_admin_client::ImageAdminClient;
use proto::corten::image_v1::{ImportRequest, ImportedImage};
use proto::cri::v1;
use proto::cri::v1::image_service_client::ImageServiceClient;
use proto::cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// Answers ADD with a fixed address, and does nothing else.
const PLUGIN: &str = r#"#!/bin/sh
cat > /dev/null
echo "$CNI_COMMAND $CNI_CONTAINERID" >> "$(dirname "$0")/log"
[ "$CNI_COMMAND" = ADD ] && echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.8.7/24"}]}'
exit 0
"#;
const SHUTDOWN: Duration = Duration::from_secs(10);

/// True if this test can run; says what is missing if not.
pub fn can_run() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let busybox = Path::new("/bin/busybox").exists();
    if !root || !busybox {
        println!("skipped: needs root and busybox-static");
    }
    root && busybox
}

/// True if containers can be run, too.
pub fn can_run_containers() -> bool {
    let runtime = runtime_command();
    if runtime.is_none() {
        println!("skipped: needs runc or CORTEN_BIN");
    }
    can_run() && runtime.is_some()
}

/// The OCI runtime under test: the binary in `CORTEN_BIN`, else runc.
fn runtime_command() -> Option<Vec<String>> {
    if let Some(binary) = std::env::var_os("CORTEN_BIN") {
        return Some(vec![binary.to_string_lossy().into_owned(), "oci".to_owned()]);
    }
    let paths = ["/usr/sbin/runc", "/usr/bin/runc"];
    paths.iter().find(|path| Path::new(path).exists()).map(|path| vec![(*path).to_owned()])
}

/// A running runtime.
pub struct Node {
    pub dir: tempfile::TempDir,
    pub config: Config,
    scope: TaskScope,
    pub runtime: RuntimeServiceClient<Channel>,
    pub images: ImageServiceClient<Channel>,
    pub admin: ImageAdminClient<Channel>,
}

impl Node {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::Builder::new().prefix("corten-cri-").tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let shim = PathBuf::from(env!("CARGO_BIN_EXE_corten-cri-test"));
        let mut config = Config::new(&shim, path("cri.sock"), path("state"), path("run"));
        if let Some(runtime) = runtime_command() {
            config.handlers.insert(String::new(), runtime);
        }
        config.cni = CniConfig { conf_dir: path("net.d"), bin_dirs: vec![path("bin")], template: None };
        config.default_cgroup_parent = format!("/corten-cri-test-{}", std::process::id());
        config.registries = RegistryConfig::default();
        change(&mut config);
        for name in ["net.d", "bin", "logs"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::write(path("bin/fake"), PLUGIN).unwrap();
        std::fs::set_permissions(path("bin/fake"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let conf = r#"{"cniVersion":"1.0.0","name":"test","plugins":[{"type":"fake"}]}"#;
        std::fs::write(path("net.d/10-test.conflist"), conf).unwrap();
        let (scope, channel) = serve(&config).await;
        Self {
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel.clone()),
            admin: ImageAdminClient::new(channel).max_decoding_message_size(64 << 20),
            dir,
            config,
            scope,
        }
    }

    /// Ends the server as a crash would, and starts another on the same directories.
    pub async fn restart(&mut self) {
        self.scope.cancel();
        assert!(self.scope.shutdown(SHUTDOWN).await, "the server ends");
        let (scope, channel) = serve(&self.config).await;
        self.scope = scope;
        self.runtime = RuntimeServiceClient::new(channel.clone());
        self.images = ImageServiceClient::new(channel.clone());
        self.admin = ImageAdminClient::new(channel);
    }

    pub async fn import(
        &mut self,
        archive: Vec<u8>,
        names: &[&str],
    ) -> Result<Vec<ImportedImage>, tonic::Status> {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let pieces: Vec<ImportRequest> = std::iter::once(ImportRequest { names, data: Default::default() })
            .chain(
                archive.chunks(1 << 20).map(|c| ImportRequest { names: Vec::new(), data: c.to_vec().into() }),
            )
            .collect();
        let answer = self.admin.import(futures::stream::iter(pieces)).await?;
        Ok(answer.into_inner().images)
    }

    pub async fn pull(&mut self, name: &str, auth: Option<v1::AuthConfig>) -> Result<String, tonic::Status> {
        let image = Some(image_spec(name));
        let request = v1::PullImageRequest { image, auth, sandbox_config: None };
        Ok(self.images.pull_image(request).await?.into_inner().image_ref)
    }

    /// Removes everything that runs.
    pub async fn clear(&mut self) {
        let list = self.runtime.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await.unwrap();
        for sandbox in list.into_inner().items {
            let request = v1::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id };
            self.runtime.remove_pod_sandbox(request).await.unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.scope.cancel();
        let shims = shim_dirs(&self.config.run_dir);
        let ended = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                for dir in shims {
                    if let Ok(shim) = shim::Shim::connect(&dir).await {
                        let _ = shim.shutdown().await;
                    }
                }
            });
        });
        let _ = ended.join();
        unmount_below(self.dir.path());
        // Other tests of this process may still have something in it; the last one succeeds.
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let parent = self.config.default_cgroup_parent.trim_start_matches('/');
            let _ = std::fs::remove_dir(hierarchy.path().join(parent));
        }
    }
}

fn shim_dirs(run_dir: &Path) -> Vec<PathBuf> {
    let sandboxes = std::fs::read_dir(run_dir.join("sandboxes")).into_iter().flatten();
    sandboxes.filter_map(|e| Some(e.ok()?.path().join("shim"))).collect()
}

/// The mounts below a directory.
pub fn mounts_below(root: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|l| l.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|p| p.starts_with(root)).collect()
}

fn unmount_below(root: &Path) {
    let mut mounts = mounts_below(root);
    mounts.sort();
    for mount in mounts.iter().rev() {
        let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
    }
}

async fn serve(config: &Config) -> (TaskScope, Channel) {
    let scope = TaskScope::new("cri-test");
    let server = scope.spawn_graceful(cri::run(config.clone(), scope.clone()));
    for _ in 0..1000 {
        if server.is_finished() {
            panic!("the server ended: {:?}", server.await);
        }
        if let Ok(channel) = connect(&config.socket).await {
            return (scope, channel);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the server does not answer");
}

async fn connect(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await
}

pub fn image_spec(name: &str) -> v1::ImageSpec {
    v1::ImageSpec { image: name.to_owned(), ..Default::default() }
}

/// A free port of loopback.
pub fn free_address() -> SocketAddr {
    (std::net::Ipv4Addr::LOCALHOST, testnet::reserve_port()).into()
}
