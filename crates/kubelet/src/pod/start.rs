//! Starting one container: image, configuration, creation, start, hook (upstream `startContainer`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use client::EventType;
use k8s_openapi::api::core::v1::{Pod, Secret};
use proto::cri::v1::{CreateContainerRequest, PodSandboxConfig, StartContainerRequest};

use super::sandbox;
use super::spec::{self, ContainerSpec};
use crate::container::config::{ContainerInputs, container_config, log_path};
use crate::container::env::{EnvInputs, Objects, environment};
use crate::container::field::FieldSource;
use crate::container::lifecycle::run_hook;
use crate::container::sandbox::log_directory;
use crate::container::{hosts, service_env};
use crate::cri::{ContainerState, Observed};
use crate::events::container_reference;
use crate::images::{ImageError, Pulled};
use crate::shared::Shared;
use crate::status::StartError;
use crate::volumes::{MountInputs, VolumeSet, container_mounts, pod_dir};

/// A configuration that was wrong is tried again after this long, or when an object it names changes.
const CONFIG_RETRY: Duration = Duration::from_secs(10);

/// A container that could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its waiting state.
    pub error: StartError,
    /// Time until the next try.
    pub retry_after: Duration,
}

/// What is needed to start a container.
pub struct Start<'a> {
    pub shared: &'a Shared,
    pub pod: &'a Pod,
    pub spec: &'a ContainerSpec<'a>,
    pub restart_count: u32,
    pub observed: &'a Observed,
    pub volumes: &'a VolumeSet,
}

fn failed(reason: &str, message: impl Into<String>) -> Failed {
    let error = StartError { reason: reason.to_owned(), message: message.into() };
    Failed { error, retry_after: CONFIG_RETRY }
}

fn no_image(error: ImageError) -> Failed {
    Failed { error: error.error, retry_after: error.retry_after }
}

/// The pull secrets of the pod that are there.
pub async fn pull_secrets(shared: &Shared, pod: &Pod) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for reference in spec::spec(pod).image_pull_secrets.iter().flatten() {
        match shared.volumes.objects.secret(spec::namespace(pod), &reference.name).await {
            Ok(Some(secret)) => secrets.push(secret),
            Ok(None) => tracing::debug!(secret = reference.name, "no such image pull secret"),
            Err(error) => tracing::warn!(error, "cannot read an image pull secret"),
        }
    }
    secrets
}

impl Start<'_> {
    /// Starts it.
    pub async fn run(&self) -> Result<(), Failed> {
        let Some(sandbox) = self.observed.ready_sandbox() else {
            return Err(failed("CreateContainerError", "the pod has no sandbox"));
        };
        let sandbox_config = sandbox::config(self.shared, self.pod, sandbox.attempt);
        let secrets = pull_secrets(self.shared, self.pod).await;
        let image = self
            .shared
            .images
            .ensure(self.pod, self.spec, &secrets, &sandbox_config)
            .await
            .map_err(no_image)?;
        let volume_images = self.volume_images(&secrets, &sandbox_config).await.map_err(no_image)?;
        let id = self.create(&sandbox.id, &sandbox.ips, sandbox_config, image, &volume_images).await?;
        self.tell(EventType::Normal, "Created", "Container created".to_owned());
        if let Err(error) =
            self.shared.cri.start_container(StartContainerRequest { container_id: id.clone() }).await
        {
            self.tell(EventType::Warning, "Failed", format!("Error: {}", error.message));
            return Err(failed("RunContainerError", error.message));
        }
        self.tell(EventType::Normal, "Started", "Container started".to_owned());
        self.link_log(&id);
        self.post_start(&id, sandbox.ips.first().map(String::as_str)).await
    }

    /// The images of the volumes that the container mounts, as the runtime identifies them, by volume.
    async fn volume_images(
        &self,
        secrets: &[Secret],
        sandbox: &PodSandboxConfig,
    ) -> Result<BTreeMap<String, String>, ImageError> {
        let mut images = BTreeMap::new();
        for volume in spec::spec(self.pod).volumes.iter().flatten() {
            let Some(source) = &volume.image else { continue };
            if self.spec.container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name) {
                let pulled = self.shared.images.ensure_volume(self.pod, source, secrets, sandbox).await?;
                images.insert(volume.name.clone(), pulled.image_ref);
            }
        }
        Ok(images)
    }

    async fn create(
        &self,
        sandbox_id: &str,
        ips: &[String],
        sandbox_config: PodSandboxConfig,
        image: Pulled,
        volume_images: &BTreeMap<String, String>,
    ) -> Result<String, Failed> {
        let config = self.configure(ips, image, volume_images).await.map_err(|message| {
            self.tell(EventType::Warning, "Failed", format!("Error: {message}"));
            failed("CreateContainerConfigError", message)
        })?;
        let logs = log_directory(&self.shared.config.pod_logs_dir, self.pod).join(&self.spec.container.name);
        if let Err(error) = std::fs::create_dir_all(&logs) {
            return Err(failed("CreateContainerError", format!("{}: {error}", logs.display())));
        }
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let made = self.shared.cri.create_container(request).await;
        made.map(|m| m.container_id).map_err(|error| {
            self.tell(EventType::Warning, "Failed", format!("Error: {}", error.message));
            failed("CreateContainerError", error.message)
        })
    }

    async fn configure(
        &self,
        ips: &[String],
        image: Pulled,
        volume_images: &BTreeMap<String, String>,
    ) -> Result<proto::cri::v1::ContainerConfig, String> {
        let Self { shared, pod, spec, .. } = *self;
        let host_network = spec::host_network(pod);
        let pod_ips = if host_network { &shared.host_ips } else { ips };
        let fields = FieldSource {
            pod,
            pod_ips,
            host_ips: &shared.host_ips,
            allocatable: &shared.machine.allocatable,
        };
        let links = spec::spec(pod).enable_service_links.unwrap_or(true);
        shared.services.synced().await;
        let services = service_env::variables(&shared.services.cache().list(), spec::namespace(pod), links);
        let inputs = EnvInputs { source: &fields, services, objects: &shared.volumes.objects };
        let env = environment(&inputs, &spec.container).await?;
        let hosts_file = pod_dir(&shared.config.root_dir, &spec::uid(pod)).join("etc-hosts");
        self.write_hosts(&hosts_file, ips).map_err(|e| format!("{}: {e}", hosts_file.display()))?;
        let mounts = container_mounts(&MountInputs {
            root_dir: &shared.config.root_dir,
            pod,
            container: &spec.container,
            volumes: self.volumes,
            images: volume_images,
            env: &env,
            hosts_file: Some(&hosts_file),
        })?;
        let target = match spec.target {
            Some(name) => Some(self.target_id(name)?),
            None => None,
        };
        container_config(ContainerInputs {
            pod,
            spec,
            restart_count: self.restart_count,
            image_user: &image.user,
            image_ref: image.image_ref,
            env,
            mounts,
            target_id: target.as_deref(),
            security: shared.security(),
            limits: shared.limits,
        })
    }

    fn target_id(&self, name: &str) -> Result<String, String> {
        let target = self.observed.container(name).filter(|c| c.state == ContainerState::Running);
        target.map(|c| c.id.clone()).ok_or_else(|| format!("unable to find target container {name}"))
    }

    fn write_hosts(&self, file: &Path, ips: &[String]) -> std::io::Result<()> {
        let pod = self.pod;
        let aliases = spec::spec(pod).host_aliases.as_deref().unwrap_or_default();
        let text = if spec::host_network(pod) {
            hosts::of_node(&std::fs::read_to_string("/etc/hosts").unwrap_or_default(), aliases)
        } else {
            let (host, domain) = hosts::hostname(pod, &self.shared.config.cluster_domain);
            hosts::managed(ips, &host, domain.as_deref(), aliases)
        };
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // In place: containers hold the file itself mounted.
        std::fs::write(file, text)
    }

    async fn post_start(&self, id: &str, pod_ip: Option<&str>) -> Result<(), Failed> {
        let hook = self.spec.container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let run = run_hook(&self.shared.cri, hook, &self.spec.container, id, pod_ip).await;
        let Err(error) = run else { return Ok(()) };
        tracing::warn!(
            pod = spec::described(self.pod),
            container = self.spec.container.name,
            error,
            "postStart hook failed"
        );
        self.tell(EventType::Warning, "FailedPostStartHook", "PostStartHook failed".to_owned());
        self.tell(EventType::Normal, "Killing", "FailedPostStartHook".to_owned());
        if let Err(error) =
            self.shared.cri.stop_container(id.to_owned(), spec::grace_period_s(self.pod)).await
        {
            tracing::warn!(%error, "container with a failed hook not stopped");
        }
        Err(failed("PostStartHookError", error))
    }

    /// A link that log shippers find the container's log by: `pod_namespace_container-id.log`.
    fn link_log(&self, id: &str) {
        let Some(folder) = &self.shared.config.container_logs_dir else { return };
        let name = &self.spec.container.name;
        let link =
            folder.join(format!("{}_{}_{name}-{id}.log", spec::name(self.pod), spec::namespace(self.pod)));
        let target = log_directory(&self.shared.config.pod_logs_dir, self.pod)
            .join(log_path(name, self.restart_count));
        if let Err(error) = std::os::unix::fs::symlink(target, &link) {
            tracing::debug!(link = %link.display(), %error, "log link not made");
        }
    }

    fn tell(&self, kind: EventType, reason: &str, message: String) {
        let about = container_reference(self.pod, &self.spec.field_path());
        self.shared.events.event_at(about, kind, reason, message);
    }
}
