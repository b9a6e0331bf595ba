//! The state of one runtime: its sandboxes and containers, and what they share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use base::TaskScope;
use futures::StreamExt;
use parking_lot::RwLock;
use proto::cri::v1::{ContainerEventResponse, ContainerEventType};
use tokio::sync::broadcast;

use crate::cni::Cni;
use crate::config::Config;
use crate::container::Container;
use crate::disk::{self, blocking, now_ns};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::sandbox::Sandbox;
use crate::snapshots::{Snapshots, unmount_below};
use crate::spec::HostFacts;
use crate::stats::Samples;
use crate::streaming::Streaming;

/// How many events a slow listener may fall behind before it is cut off (containerd's buffer).
const EVENT_BUFFER: usize = 1000;
/// How many sandboxes are found again at the same time.
const PARALLEL_RECOVERY: usize = 16;
/// The shortest abbreviation of an id that is accepted.
const MIN_ID_PREFIX: usize = 4;

/// One runtime.
pub struct Node {
    pub config: Config,
    pub host: HostFacts,
    pub images: Images,
    pub snapshots: Arc<Snapshots>,
    pub cni: Cni,
    pub scope: TaskScope,
    pub streaming: Streaming,
    pub samples: Samples,
    /// Held while a name is looked for and taken.
    pub reserving: tokio::sync::Mutex<()>,
    sandboxes: RwLock<BTreeMap<String, Arc<Sandbox>>>,
    containers: RwLock<BTreeMap<String, Arc<Container>>>,
    events: broadcast::Sender<ContainerEventResponse>,
}

impl Node {
    /// Opens the state and finds again what runs.
    pub async fn open(config: Config, scope: TaskScope) -> Result<Arc<Self>> {
        let streaming = Streaming::start(config.streaming_address, &scope).await?;
        let node = {
            let scope = scope.clone();
            blocking(move || Self::load(config, scope, streaming)).await?
        };
        let recovery =
            futures::stream::iter(node.sandboxes()).for_each_concurrent(PARALLEL_RECOVERY, |sandbox| {
                let node = &node;
                async move {
                    let id = sandbox.id.clone();
                    if let Err(error) = node.adopt(sandbox).await {
                        tracing::error!(sandbox = id, %error, "sandbox not recovered");
                    }
                }
            });
        recovery.await;
        node.remove_orphans().await?;
        Ok(node)
    }

    fn load(config: Config, scope: TaskScope, streaming: Streaming) -> Result<Arc<Self>> {
        for dir in [&config.state_dir, &config.run_dir] {
            disk::make_private_dir(dir)?;
        }
        let snapshots = Arc::new(Snapshots::open(&config.state_dir.join("snapshots"))?);
        let images =
            Images::open(&config.state_dir.join("images"), snapshots.clone(), config.registries.clone())?;
        let cni = Cni::new(config.cni.clone(), config.state_dir.join("cni"))?;
        let node = Self {
            host: HostFacts::detect(),
            images,
            snapshots,
            cni,
            scope,
            streaming,
            samples: Samples::default(),
            reserving: tokio::sync::Mutex::new(()),
            sandboxes: RwLock::default(),
            containers: RwLock::default(),
            events: broadcast::Sender::new(EVENT_BUFFER),
            config,
        };
        if node.host.min_oom_score_adj > -1000 {
            tracing::warn!(
                lowest = node.host.min_oom_score_adj,
                "CAP_SYS_RESOURCE is missing: OOM scores are not lowered below our own"
            );
        }
        for sandbox in Sandbox::load_all(&node.sandbox_state_root(), &node.sandbox_run_root())? {
            node.add_sandbox(sandbox);
        }
        for container in Container::load_all(&node.container_state_root(), &node.container_run_root())? {
            container.reacquire_images(&node.images);
            node.add_container(container);
        }
        Ok(Arc::new(node))
    }

    /// Removes what belongs to no record: a crash in the middle of making or removing a container leaves such.
    async fn remove_orphans(self: &Arc<Self>) -> Result<()> {
        let homeless: Vec<_> =
            self.containers().into_iter().filter(|c| self.sandbox(&c.sandbox_id).is_err()).collect();
        for container in homeless {
            self.remove_container(&container.id).await?;
        }
        let node = self.clone();
        blocking(move || {
            for dir in disk::subdirectories(&node.container_run_root())? {
                let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !node.containers.read().contains_key(&id) {
                    unmount_below(&dir)?;
                    disk::remove_tree(&dir)?;
                }
            }
            for id in node.snapshots.containers()? {
                if !node.containers.read().contains_key(&id) {
                    node.snapshots.remove_container(&id)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Where sandboxes' records are.
    pub fn sandbox_state_root(&self) -> PathBuf {
        self.config.state_dir.join("sandboxes")
    }

    /// Where sandboxes' mounts and shims are.
    pub fn sandbox_run_root(&self) -> PathBuf {
        self.config.run_dir.join("sandboxes")
    }

    /// Where containers' records are.
    pub fn container_state_root(&self) -> PathBuf {
        self.config.state_dir.join("containers")
    }

    /// Where containers' bundles are.
    pub fn container_run_root(&self) -> PathBuf {
        self.config.run_dir.join("containers")
    }

    /// The sandbox with an id, which may be abbreviated.
    pub fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>> {
        find(&self.sandboxes.read(), id).ok_or_else(|| not_found("sandbox", id))
    }

    /// The container with an id, which may be abbreviated.
    pub fn container(&self, id: &str) -> Result<Arc<Container>> {
        find(&self.containers.read(), id).ok_or_else(|| not_found("container", id))
    }

    /// All sandboxes.
    pub fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        self.sandboxes.read().values().cloned().collect()
    }

    /// All containers.
    pub fn containers(&self) -> Vec<Arc<Container>> {
        self.containers.read().values().cloned().collect()
    }

    /// The containers of a sandbox.
    pub fn containers_of(&self, sandbox_id: &str) -> Vec<Arc<Container>> {
        let containers = self.containers.read();
        containers.values().filter(|c| c.sandbox_id == sandbox_id).cloned().collect()
    }

    /// Makes a sandbox known.
    pub fn add_sandbox(&self, sandbox: Arc<Sandbox>) {
        self.sandboxes.write().insert(sandbox.id.clone(), sandbox);
    }

    /// Makes a container known.
    pub fn add_container(&self, container: Arc<Container>) {
        self.containers.write().insert(container.id.clone(), container);
    }

    /// Forgets a sandbox.
    pub fn forget_sandbox(&self, id: &str) {
        self.sandboxes.write().remove(id);
    }

    /// Forgets a container.
    pub fn forget_container(&self, id: &str) {
        self.containers.write().remove(id);
        self.samples.forget(id);
    }

    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<ContainerEventResponse> {
        self.events.subscribe()
    }

    /// Tells listeners what happened to a sandbox.
    pub fn emit_sandbox(&self, sandbox: &Sandbox, kind: ContainerEventType) {
        self.emit(&sandbox.id, sandbox, kind);
    }

    /// Tells listeners what happened to a container.
    pub fn emit_container(&self, container: &Container, kind: ContainerEventType) {
        if let Ok(sandbox) = self.sandbox(&container.sandbox_id) {
            self.emit(&container.id, &sandbox, kind);
        }
    }

    fn emit(&self, id: &str, sandbox: &Sandbox, kind: ContainerEventType) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let deleted = kind == ContainerEventType::ContainerDeletedEvent && id == sandbox.id;
        let statuses = self.containers_of(&sandbox.id).iter().map(|c| c.to_status(self)).collect();
        let event = ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: now_ns(),
            pod_sandbox_status: (!deleted).then(|| sandbox.to_status()),
            containers_statuses: statuses,
        };
        // Nobody listening any more is no error.
        let _ = self.events.send(event);
    }
}

fn find<T>(all: &BTreeMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if let Some(found) = all.get(id) {
        return Some(found.clone());
    }
    if id.len() < MIN_ID_PREFIX {
        return None;
    }
    let mut matching = all.range(id.to_owned()..).take_while(|(key, _)| key.starts_with(id));
    match (matching.next(), matching.next()) {
        (Some((_, found)), None) => Some(found.clone()),
        _ => None,
    }
}

fn not_found(what: &str, id: &str) -> Error {
    Error::NotFound(format!("an error occurred when try to find {what} {id:?}"))
}
