//! Pod sandboxes: their network, files and shim.

mod files;
mod network;
mod run;
mod stop;
mod view;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::cri::v1::{LinuxPodSandboxConfig, NamespaceMode, NamespaceOption, PodSandboxConfig};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::persist::{Persisted, message};
use crate::spec::PodFiles;

pub use view::matches as matches_filter;

const RECORD: &str = "sandbox.json";

/// Where a sandbox is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxPhase {
    /// Being made; after a restart of the runtime it is cleaned up, nobody knows it.
    Creating,
    /// Containers can run in it.
    Ready,
    /// They cannot any more.
    NotReady,
}

/// What is kept of a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Its id.
    pub id: String,
    /// What the kubelet asked for.
    #[serde(with = "message")]
    pub config: PodSandboxConfig,
    /// The runtime handler.
    pub handler: String,
    /// Where it is in its life.
    pub phase: SandboxPhase,
    /// When it was asked for, in nanoseconds since 1970.
    pub created_at_ns: i64,
    /// Its network namespace; `None` for the host's.
    pub netns: Option<PathBuf>,
    /// Its addresses; the first is the pod's IP.
    pub ips: Vec<String>,
}

/// A sandbox.
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// What is kept of it.
    pub record: Arc<Persisted<SandboxRecord>>,
    /// Held by whoever changes its life: run, stop, remove.
    pub turn: tokio::sync::Mutex<()>,
    state_dir: PathBuf,
    run_dir: PathBuf,
    /// The shim's end is no accident.
    shim_may_end: AtomicBool,
}

impl Sandbox {
    fn new(
        id: String,
        record: Arc<Persisted<SandboxRecord>>,
        state_dir: PathBuf,
        run_dir: PathBuf,
    ) -> Arc<Self> {
        let turn = tokio::sync::Mutex::new(());
        Arc::new(Self { id, record, turn, state_dir, run_dir, shim_may_end: AtomicBool::new(false) })
    }

    /// The sandboxes recorded below `state_root`. Blocks.
    pub fn load_all(state_root: &Path, run_root: &Path) -> Result<Vec<Arc<Self>>> {
        let mut found = Vec::new();
        for dir in crate::disk::subdirectories(state_root)? {
            let Some(record) = Persisted::<SandboxRecord>::open(dir.join(RECORD))? else {
                // Made before its record, or half removed: nothing else belongs to it.
                crate::disk::remove_tree(&dir)?;
                continue;
            };
            let id = record.with(|r| r.id.clone());
            let run_dir = run_root.join(&id);
            found.push(Self::new(id, record, dir, run_dir));
        }
        Ok(found)
    }

    /// The shim's directory.
    pub fn shim_dir(&self) -> PathBuf {
        self.run_dir.join("shim")
    }

    /// Where the pod's shared memory is mounted.
    pub fn shm_dir(&self) -> PathBuf {
        self.run_dir.join("shm")
    }

    /// True while containers can run in it.
    pub fn is_ready(&self) -> bool {
        self.record.with(|r| r.phase == SandboxPhase::Ready)
    }

    /// True once it is fully made; before that nobody is told of it.
    pub fn is_visible(&self) -> bool {
        self.record.with(|r| r.phase != SandboxPhase::Creating)
    }

    /// The namespaces that the pod asks for.
    pub fn namespace_options(&self) -> NamespaceOption {
        self.record.with(|r| namespace_options(&r.config))
    }

    /// The pod's files for its containers.
    pub fn files(&self) -> PodFiles {
        let options = self.namespace_options();
        let config = self.record.with(|r| r.config.clone());
        let file = |name: &str| Some(self.state_dir.join(name));
        PodFiles {
            hostname: files::hostname(&config, &options),
            hostname_file: file(files::HOSTNAME),
            hosts: file(files::HOSTS),
            resolv_conf: file(files::RESOLV_CONF),
            shm: Some(match options.ipc() {
                NamespaceMode::Node => PathBuf::from("/dev/shm"),
                _ => self.shm_dir(),
            }),
        }
    }

    fn expect_shim_end(&self) {
        self.shim_may_end.store(true, Ordering::SeqCst);
    }

    fn shim_end_is_expected(&self) -> bool {
        self.shim_may_end.load(Ordering::SeqCst)
    }
}

/// The Linux part of a pod's configuration.
pub fn linux(config: &PodSandboxConfig) -> LinuxPodSandboxConfig {
    config.linux.clone().unwrap_or_default()
}

fn namespace_options(config: &PodSandboxConfig) -> NamespaceOption {
    linux(config).security_context.and_then(|s| s.namespace_options).unwrap_or_default()
}
