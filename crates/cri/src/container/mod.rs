//! Containers: made in a sandbox from an image, run by its shim.

mod create;
mod ended;
mod exec;
mod mounts;
mod signal;
mod start;
mod stop;
mod update;
mod view;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::cri::v1::ContainerConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use ended::Ending;
pub use exec::AttachTraits;
pub use view::matches as matches_filter;

use crate::error::Result;
use crate::images::Images;
use crate::images::digest::Digest;
use crate::persist::{Persisted, message};
use crate::spec::ResolvedUser;

const RECORD: &str = "container.json";
const ROOTFS: &str = "rootfs";
const SPEC: &str = "config.json";

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerPhase {
    /// Made, never started.
    Created,
    /// Its command runs.
    Running,
    /// Its command ended, or could not be started.
    Exited,
}

/// What is kept of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its id.
    pub id: String,
    /// The sandbox that it is in.
    pub sandbox_id: String,
    /// What the kubelet asked for; its resources are those that are in force.
    #[serde(with = "message")]
    pub config: ContainerConfig,
    /// The image.
    pub image_id: Digest,
    /// The image by repository and digest.
    pub image_ref: String,
    /// Who runs it.
    pub user: ResolvedUser,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// Its log.
    pub log_path: Option<PathBuf>,
    /// Where it is in its life.
    pub phase: ContainerPhase,
    /// In nanoseconds since 1970, as the next two; 0 if not yet.
    pub created_at_ns: i64,
    /// When its command was started.
    #[serde(default)]
    pub started_at_ns: i64,
    /// When it ended.
    #[serde(default)]
    pub finished_at_ns: i64,
    /// How it ended.
    #[serde(default)]
    pub exit_code: i32,
    /// Why, in one word.
    #[serde(default)]
    pub reason: String,
    /// Why, in a sentence.
    #[serde(default)]
    pub message: String,
    /// Its first process, 0 if it does not run.
    #[serde(default)]
    pub pid: i32,
    /// Its cgroup directories by controller; the single key `""` on cgroup v2.
    #[serde(default)]
    pub cgroups: BTreeMap<String, PathBuf>,
}

/// A container.
pub struct Container {
    /// Its id.
    pub id: String,
    /// The sandbox that it is in.
    pub sandbox_id: String,
    /// What is kept of it.
    pub record: Arc<Persisted<ContainerRecord>>,
    /// Held by whoever starts or removes it.
    pub turn: tokio::sync::Mutex<()>,
    state_dir: PathBuf,
    /// The OCI bundle.
    bundle: PathBuf,
    /// Follows the record's phase, for those who wait.
    phase: watch::Sender<ContainerPhase>,
}

impl Container {
    fn new(record: Arc<Persisted<ContainerRecord>>, state_dir: PathBuf, bundle: PathBuf) -> Arc<Self> {
        let (id, sandbox_id, phase) = record.with(|r| (r.id.clone(), r.sandbox_id.clone(), r.phase));
        let turn = tokio::sync::Mutex::new(());
        let phase = watch::Sender::new(phase);
        Arc::new(Self { id, sandbox_id, record, turn, state_dir, bundle, phase })
    }

    /// The containers recorded below `state_root`. Blocks.
    pub fn load_all(state_root: &Path, run_root: &Path) -> Result<Vec<Arc<Self>>> {
        let mut found = Vec::new();
        for dir in crate::disk::subdirectories(state_root)? {
            let Some(record) = Persisted::<ContainerRecord>::open(dir.join(RECORD))? else {
                crate::disk::remove_tree(&dir)?;
                continue;
            };
            let bundle = run_root.join(record.with(|r| r.id.clone()));
            found.push(Self::new(record, dir, bundle));
        }
        Ok(found)
    }

    /// Notes which images it uses, for a container that was there before this server started.
    pub fn reacquire_images(&self, images: &Images) {
        let (image, volumes) = self.record.with(|r| (r.image_id.clone(), r.config.mounts.clone()));
        images.reacquire(image, &self.id);
        mounts::reacquire(images, &self.id, &volumes);
    }

    /// True while its command runs.
    pub fn is_running(&self) -> bool {
        self.record.with(|r| r.phase == ContainerPhase::Running)
    }

    fn rootfs(&self) -> PathBuf {
        self.bundle.join(ROOTFS)
    }

    fn spec_path(&self) -> PathBuf {
        self.bundle.join(SPEC)
    }

    fn set_phase(&self, phase: ContainerPhase) {
        self.phase.send_replace(phase);
    }

    /// Waits until the container does not run any more.
    async fn ended(&self) {
        let mut phase = self.phase.subscribe();
        // The sender is in self, so it cannot be gone.
        let _ = phase.wait_for(|phase| *phase != ContainerPhase::Running).await;
    }
}

/// Writes a specification. It need not survive a crash of the machine, since no container does.
fn write_spec(path: &Path, spec: &serde_json::Value) -> Result<()> {
    std::fs::write(path, spec.to_string()).map_err(crate::Error::io("write", path))
}
