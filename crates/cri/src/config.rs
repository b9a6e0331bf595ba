//! What the runtime is told from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::cni::CniConfig;
use crate::registry::RegistryConfig;

/// The name of the default runtime handler in requests.
pub const DEFAULT_HANDLER: &str = "";

/// Everything that makes one runtime differ from another on the same machine.
#[derive(Debug, Clone)]
pub struct Config {
    /// The unix socket to serve on; made with mode 0600.
    pub socket: PathBuf,
    /// What survives a restart of the machine: images, writable layers, records.
    pub state_dir: PathBuf,
    /// What need not: mounts, network namespaces, bundles, the shims' directories. May be below `state_dir`.
    pub run_dir: PathBuf,
    /// The program, with its first arguments, that runs `shim::main`.
    pub shim: Vec<String>,
    /// OCI runtimes by handler name; the default has the name `""`. Run by the shim: `/proc/self/exe` is its binary.
    pub handlers: BTreeMap<String, Vec<String>>,
    /// Registries.
    pub registries: RegistryConfig,
    /// Networks.
    pub cni: CniConfig,
    /// Where the streaming server listens; port 0 is any. Loopback only, since the kubelet is its only client.
    pub streaming_address: SocketAddr,
    /// The parent cgroup of pods that name none (those of `crictl`).
    pub default_cgroup_parent: String,
    /// The cgroup of shims; `None` leaves them in the caller's.
    pub shim_cgroup: Option<String>,
}

impl Config {
    /// The usual configuration of the binary `executable`, whose subcommands `shim` and `oci` are re-executed.
    pub fn new(executable: &Path, socket: PathBuf, state_dir: PathBuf, run_dir: PathBuf) -> Self {
        let own_runtime = vec!["/proc/self/exe".to_owned(), "oci".to_owned()];
        Self {
            socket,
            shim: vec![executable.display().to_string(), "shim".to_owned()],
            handlers: BTreeMap::from([(DEFAULT_HANDLER.to_owned(), own_runtime)]),
            registries: RegistryConfig::default(),
            cni: CniConfig {
                conf_dir: state_dir.join("net.d"),
                bin_dirs: vec![PathBuf::from("/opt/cni/bin")],
                template: None,
            },
            streaming_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            default_cgroup_parent: "/corten".to_owned(),
            shim_cgroup: None,
            state_dir,
            run_dir,
        }
    }
}
