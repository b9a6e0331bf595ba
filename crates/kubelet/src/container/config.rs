//! What a container is made with (upstream `generateContainerConfig`).

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};
use proto::cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, Mount, Signal,
};

use super::expand::expand;
use super::linux::{self, NodeLimits};
use super::security::{self, ImageUser, NodeSecurity};
use crate::cri::labels;
use crate::pod::spec::ContainerSpec;

/// What a container is made from.
#[derive(Debug)]
pub struct ContainerInputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub spec: &'a ContainerSpec<'a>,
    /// How often it was started before.
    pub restart_count: u32,
    /// The image as the runtime identifies it.
    pub image_ref: String,
    /// The image's user.
    pub image_user: &'a ImageUser,
    /// Environment variables in order.
    pub env: Vec<(String, String)>,
    /// Mounts in order.
    pub mounts: Vec<Mount>,
    /// The container whose processes an ephemeral container sees.
    pub target_id: Option<&'a str>,
    /// What the node decides about security.
    pub security: NodeSecurity<'a>,
    /// What the node decides about resources.
    pub limits: NodeLimits,
}

/// The container's log file, relative to the pod's log folder.
pub fn log_path(name: &str, restart_count: u32) -> String {
    format!("{name}/{restart_count}.log")
}

/// The container's configuration. The error is the message of `CreateContainerConfigError`.
pub fn container_config(inputs: ContainerInputs<'_>) -> Result<ContainerConfig, String> {
    let container: &Container = &inputs.spec.container;
    security::verify_non_root(inputs.pod, container, inputs.image_user)?;
    let known: BTreeMap<&str, &str> = inputs.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter()
            .flatten()
            .map(|text| expand(text, |name| known.get(name).map(|v| (*v).to_owned())))
            .collect()
    };
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let security_context =
        security::of_container(inputs.pod, container, inputs.image_user, inputs.target_id, inputs.security)?;
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: inputs.restart_count }),
        image: Some(ImageSpec {
            image: inputs.image_ref,
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: inputs.env.into_iter().map(|(key, value)| KeyValue { key, value }).collect(),
        mounts: inputs.mounts,
        labels: labels::container_labels(inputs.pod, container),
        annotations: labels::container_annotations(inputs.pod, container, inputs.restart_count),
        log_path: log_path(&container.name, inputs.restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(LinuxContainerConfig {
            resources: Some(linux::container_resources(inputs.pod, container, inputs.limits)),
            security_context: Some(security_context),
        }),
        stop_signal: stop_signal(container) as i32,
        ..Default::default()
    })
}

fn stop_signal(container: &Container) -> Signal {
    let name = container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref());
    name.and_then(|name| Signal::from_str_name(&name.replace('+', "PLUS").replace('-', "MINUS")))
        .unwrap_or_default()
}

/// A mount of a file or folder of the node.
pub fn bind(container_path: &str, host_path: &Path, readonly: bool) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.display().to_string(),
        readonly,
        ..Default::default()
    }
}
