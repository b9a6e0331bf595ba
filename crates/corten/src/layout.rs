//! Where a cluster keeps its files. Every path of a cluster comes from here, so that several live side by side.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The data directory of the default cluster.
const DEFAULT_DATA_DIR: &str = "/var/lib/corten";
/// The name of the cluster that is meant when none is given.
pub const DEFAULT_NAME: &str = "corten";

/// The data directory of a cluster and what lies in it.
#[derive(Debug, Clone)]
pub struct Layout {
    data: PathBuf,
}

impl Layout {
    /// The layout below `data`, an absolute path.
    pub fn new(data: PathBuf) -> Self {
        Self { data }
    }

    /// Where a cluster of this name lives unless told otherwise.
    pub fn default_data_dir(name: &str) -> PathBuf {
        match name {
            DEFAULT_NAME => PathBuf::from(DEFAULT_DATA_DIR),
            other => PathBuf::from(format!("{DEFAULT_DATA_DIR}-{other}")),
        }
    }

    /// Makes the directories, closed to other users.
    pub fn create(&self) -> anyhow::Result<()> {
        for folder in
            [self.data.clone(), self.pki(), self.run(), self.log(), self.credentials(), self.cni_conf()]
        {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .with_context(|| format!("create {}", folder.display()))?;
        }
        Ok(())
    }

    /// The data directory itself.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What the cluster was created with.
    pub fn settings(&self) -> PathBuf {
        self.data.join("cluster.json")
    }

    /// Locked by the server that runs on this directory; holds its process id.
    pub fn lock(&self) -> PathBuf {
        self.run().join("server.pid")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data.join("kubeconfig")
    }

    /// Certificates and keys, named as kubeadm names them.
    pub fn pki(&self) -> PathBuf {
        self.data.join("pki")
    }

    /// Kubeconfigs of components that run as processes of their own.
    pub fn credentials(&self) -> PathBuf {
        self.data.join("kubeconfigs")
    }

    /// The store's log and state.
    pub fn store(&self) -> PathBuf {
        self.data.join("store")
    }

    /// The kubelet's root: volumes and pod directories.
    pub fn kubelet(&self) -> PathBuf {
        self.data.join("kubelet")
    }

    /// Manifests of static pods.
    pub fn manifests(&self) -> PathBuf {
        self.data.join("manifests")
    }

    /// Images, snapshots, sandboxes and containers.
    pub fn cri(&self) -> PathBuf {
        self.data.join("cri")
    }

    /// Network configuration lists.
    pub fn cni_conf(&self) -> PathBuf {
        self.data.join("cni/net.d")
    }

    /// Network plugins: links to this binary.
    pub fn cni_bin(&self) -> PathBuf {
        self.data.join("cni/bin")
    }

    /// Addresses handed out by host-local.
    pub fn cni_state(&self) -> PathBuf {
        self.data.join("cni/state")
    }

    /// Sockets and the lock.
    pub fn run(&self) -> PathBuf {
        self.data.join("run")
    }

    /// The container runtime's socket.
    pub fn cri_socket(&self) -> PathBuf {
        self.run().join("cri.sock")
    }

    /// Logs of the server and of pods.
    pub fn log(&self) -> PathBuf {
        self.data.join("log")
    }

    /// What the server prints when it runs in the background.
    pub fn server_log(&self) -> PathBuf {
        self.log().join("server.log")
    }

    /// Container logs, a folder per pod.
    pub fn pod_logs(&self) -> PathBuf {
        self.log().join("pods")
    }

    /// Links to container logs by name, as log collectors expect.
    pub fn container_logs(&self) -> PathBuf {
        self.log().join("containers")
    }
}
