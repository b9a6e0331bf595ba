//! CreateContainer: file systems and specification; the OCI runtime is asked when it starts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::cri::v1::{ContainerConfig, ContainerEventType, NamespaceMode, NamespaceOption};
use shim::Shim;

use super::{Container, ContainerPhase, ContainerRecord, RECORD, ROOTFS, SPEC, mounts, signal, write_spec};
use crate::disk::{self, blocking};
use crate::error::{Error, Result};
use crate::images::catalog::ImageRecord;
use crate::node::Node;
use crate::persist::Persisted;
use crate::sandbox::{Sandbox, linux};
use crate::snapshots::unmount_below;
use crate::spec::{self, Namespaces, PidNamespace, SpecInput};

impl Node {
    /// Makes a container and gives its id; on failure nothing of it is left.
    pub async fn create_container(
        self: &Arc<Self>,
        sandbox_id: &str,
        config: ContainerConfig,
    ) -> Result<String> {
        let sandbox = self.sandbox(sandbox_id)?;
        if !sandbox.is_ready() {
            return Err(Error::FailedPrecondition(format!(
                "sandbox container {:?} is not running",
                sandbox.id
            )));
        }
        if config.metadata.is_none() {
            return Err(Error::InvalidArgument("container config must include metadata".to_owned()));
        }
        if !config.cdi_devices.is_empty() {
            return Err(Error::Unimplemented("CDI devices"));
        }
        let _reserving = self.reserving.lock().await;
        self.check_name_is_free(&sandbox, &config)?;
        let id = disk::new_id()?;
        let image_name = config.image.as_ref().map(|i| i.image.as_str()).unwrap_or_default();
        let image = self.images.acquire(image_name, &id)?;
        let made = self.make_container(&sandbox, &id, config, image).await;
        match made {
            Ok(container) => {
                self.add_container(container.clone());
                self.emit_container(&container, ContainerEventType::ContainerCreatedEvent);
                Ok(id)
            }
            Err(error) => {
                self.discard(&id).await;
                Err(error)
            }
        }
    }

    fn check_name_is_free(&self, sandbox: &Sandbox, config: &ContainerConfig) -> Result<()> {
        let taken = self
            .containers_of(&sandbox.id)
            .into_iter()
            .find(|c| c.record.with(|r| r.config.metadata == config.metadata));
        let Some(other) = taken else { return Ok(()) };
        let metadata = config.metadata.clone().unwrap_or_default();
        let name = format!("{}_{}", metadata.name, metadata.attempt);
        Err(Error::AlreadyExists(format!(
            "failed to reserve container name {name:?}: name {name:?} is reserved for {:?}",
            other.id
        )))
    }

    async fn make_container(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        id: &str,
        config: ContainerConfig,
        image: ImageRecord,
    ) -> Result<Arc<Container>> {
        let namespaces = self.namespaces(sandbox, &config).await?;
        let (node, sandbox, id) = (self.clone(), sandbox.clone(), id.to_owned());
        blocking(move || node.make_on_disk(&sandbox, &id, config, &image, &namespaces)).await
    }

    /// The blocking part. The record comes last: without it the rest is removed at the next start.
    fn make_on_disk(
        &self,
        sandbox: &Sandbox,
        id: &str,
        config: ContainerConfig,
        image: &ImageRecord,
        namespaces: &Namespaces,
    ) -> Result<Arc<Container>> {
        let pod = sandbox.record.with(|r| r.config.clone());
        let bundle = self.container_run_root().join(id);
        let rootfs = bundle.join(ROOTFS);
        disk::make_private_dir(&bundle)?;
        self.snapshots.mount_container(id, &image.chain, &rootfs)?;
        let security = config.linux.as_ref().and_then(|l| l.security_context.as_ref());
        let user = spec::resolve_user(security, &image.run.user, &rootfs)?;
        let image_mounts = mounts::mount_images(self, id, &bundle, &config.mounts)?;
        let parent = linux(&pod).cgroup_parent;
        let parent = if parent.is_empty() { &self.config.default_cgroup_parent } else { &parent };
        let specification = spec::build(&SpecInput {
            sandbox_id: &sandbox.id,
            config: &config,
            sandbox: &pod,
            image: &image.run,
            image_name: &image.display_name(),
            user: &user,
            namespaces,
            files: &sandbox.files(),
            image_mounts: &image_mounts,
            cgroups_path: &Path::new(parent).join(id).display().to_string(),
            host: &self.host,
        })
        .map_err(|error| error.context(format!("failed to generate container {id:?} spec")))?;
        write_spec(&bundle.join(SPEC), &specification)?;
        let state_dir = self.container_state_root().join(id);
        disk::make_private_dir(&state_dir)?;
        let record = ContainerRecord {
            id: id.to_owned(),
            sandbox_id: sandbox.id.clone(),
            image_id: image.id.clone(),
            image_ref: image.image_ref(),
            stop_signal: signal::choose(config.stop_signal(), &image.run.stop_signal)?,
            log_path: log_path(&pod.log_directory, &config.log_path),
            user,
            phase: ContainerPhase::Created,
            created_at_ns: disk::now_ns(),
            started_at_ns: 0,
            finished_at_ns: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            pid: 0,
            cgroups: Default::default(),
            config,
        };
        let record = Persisted::create(state_dir.join(RECORD), record)?;
        Ok(Container::new(record, state_dir, bundle))
    }

    async fn namespaces(&self, sandbox: &Sandbox, config: &ContainerConfig) -> Result<Namespaces> {
        let security = config.linux.as_ref().and_then(|l| l.security_context.as_ref());
        let options = security.and_then(|s| s.namespace_options.clone()).unwrap_or_default();
        let state = Shim::connect(&sandbox.shim_dir()).await?.state().await?;
        let pid = self.pid_namespace(&options, state.pid_ns)?;
        Ok(Namespaces {
            pid,
            network: sandbox.record.with(|r| r.netns.clone()),
            ipc: state.ipc_ns,
            uts: state.uts_ns,
        })
    }

    fn pid_namespace(&self, options: &NamespaceOption, of_pod: Option<PathBuf>) -> Result<PidNamespace> {
        match options.pid() {
            NamespaceMode::Container => Ok(PidNamespace::Own),
            NamespaceMode::Node => Ok(PidNamespace::Host),
            // A sandbox made for containers with their own has none to share.
            NamespaceMode::Pod => Ok(of_pod.map_or(PidNamespace::Own, PidNamespace::Path)),
            NamespaceMode::Target => {
                let target = self.container(&options.target_id)?;
                let pid = target.record.with(|r| r.pid);
                if !target.is_running() || pid == 0 {
                    return Err(Error::FailedPrecondition(format!(
                        "target container {:?} is not running",
                        target.id
                    )));
                }
                Ok(PidNamespace::Path(PathBuf::from(format!("/proc/{pid}/ns/pid"))))
            }
        }
    }

    /// Removes everything that making a container may have left, but for its record.
    pub(super) async fn discard(self: &Arc<Self>, id: &str) {
        let (node, key) = (self.clone(), id.to_owned());
        let removed = blocking(move || {
            let bundle = node.container_run_root().join(&key);
            unmount_below(&bundle)?;
            disk::remove_tree(&bundle)?;
            node.snapshots.remove_container(&key)?;
            disk::remove_tree(&node.container_state_root().join(&key))
        })
        .await;
        if let Err(error) = removed {
            tracing::warn!(container = id, %error, "not cleaned up; the next start will");
        }
        self.images.release(id);
        mounts::release(self, id);
    }
}

fn log_path(directory: &str, file: &str) -> Option<PathBuf> {
    (!directory.is_empty() && !file.is_empty()).then(|| Path::new(directory).join(file))
}
