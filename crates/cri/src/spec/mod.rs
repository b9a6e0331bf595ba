//! The OCI runtime configuration (`config.json`) of a container, from what CRI asks for and what its image says.

mod capabilities;
mod devices;
mod host;
mod mounts;
mod process;
mod resources;
mod seccomp;
mod seccomp_calls;
mod user;

use std::path::PathBuf;

use proto::cri::v1::{ContainerConfig, LinuxContainerSecurityContext, PodSandboxConfig};
use serde_json::{Value, json};

pub use host::HostFacts;
pub use mounts::PodFiles;
pub use process::exec_process;
pub use resources::linux_resources;
pub use user::{ResolvedUser, resolve as resolve_user};

use crate::error::Result;
use crate::images::manifest::RunConfig;

const OCI_VERSION: &str = "1.1.0";

/// The process IDs that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PidNamespace {
    /// Its own.
    Own,
    /// Those of the namespace at a path: the pod's, or another container's.
    Path(PathBuf),
    /// The host's.
    Host,
}

/// The namespaces that a container joins; `None` is the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespaces {
    /// `CONTAINER`, `POD`, `TARGET` or `NODE`.
    pub pid: PidNamespace,
    /// The pod's network.
    pub network: Option<PathBuf>,
    /// The pod's IPC objects.
    pub ipc: Option<PathBuf>,
    /// The pod's host name.
    pub uts: Option<PathBuf>,
}

/// Everything that a specification is made from.
pub struct SpecInput<'a> {
    /// The sandbox's id.
    pub sandbox_id: &'a str,
    /// What the kubelet asks for.
    pub config: &'a ContainerConfig,
    /// The pod.
    pub sandbox: &'a PodSandboxConfig,
    /// What the image says.
    pub image: &'a RunConfig,
    /// The name that the image was asked for by.
    pub image_name: &'a str,
    /// Who runs it.
    pub user: &'a ResolvedUser,
    /// Where it runs.
    pub namespaces: &'a Namespaces,
    /// Files of the pod that are mounted into each container.
    pub files: &'a PodFiles,
    /// Host paths for the mounts of images, in the order of `config.mounts`; `None` for other mounts.
    pub image_mounts: &'a [Option<PathBuf>],
    /// Its cgroup, below every hierarchy's root.
    pub cgroups_path: &'a str,
    /// What this machine allows.
    pub host: &'a HostFacts,
}

impl SpecInput<'_> {
    fn security(&self) -> Option<&LinuxContainerSecurityContext> {
        self.config.linux.as_ref()?.security_context.as_ref()
    }

    fn privileged(&self) -> bool {
        self.security().is_some_and(|s| s.privileged)
    }
}

/// The whole specification; its root file system is `rootfs` beside it.
pub fn build(input: &SpecInput<'_>) -> Result<Value> {
    let security = input.security();
    let mounts = mounts::build(input)?;
    let mut linux = json!({
        "namespaces": namespaces(input),
        "cgroupsPath": input.cgroups_path,
    });
    let devices = devices::build(input)?;
    if !devices.nodes.is_empty() {
        linux["devices"] = devices.nodes.into();
    }
    let requested = input.config.linux.as_ref().and_then(|l| l.resources.as_ref());
    let mut resources = resources::linux_resources(requested, input.host);
    resources["devices"] = devices.rules.into();
    linux["resources"] = resources;
    if let Some(propagation) = mounts.rootfs_propagation {
        linux["rootfsPropagation"] = propagation.into();
    }
    if !input.privileged()
        && let Some(security) = security
    {
        if !security.masked_paths.is_empty() {
            linux["maskedPaths"] = json!(security.masked_paths);
        }
        if !security.readonly_paths.is_empty() {
            linux["readonlyPaths"] = json!(security.readonly_paths);
        }
    }
    let capabilities = capabilities::build(input)?;
    if let Some(profile) = seccomp::build(input, &capabilities.bounding)? {
        linux["seccomp"] = profile;
    }
    let label = selinux_label(input);
    if let Some(label) = &label {
        linux["mountLabel"] = label.replace(":container_t:", ":container_file_t:").into();
    }
    Ok(json!({
        "ociVersion": OCI_VERSION,
        "process": process::build(input, &capabilities, label)?,
        "root": {"path": "rootfs", "readonly": security.is_some_and(|s| s.readonly_rootfs)},
        "mounts": mounts.list,
        "linux": linux,
        "annotations": annotations(input),
    }))
}

fn namespaces(input: &SpecInput<'_>) -> Vec<Value> {
    let mut list = vec![json!({"type": "mount"})];
    match &input.namespaces.pid {
        PidNamespace::Own => list.push(json!({"type": "pid"})),
        PidNamespace::Path(path) => list.push(json!({"type": "pid", "path": path})),
        PidNamespace::Host => {}
    }
    let shared = [
        ("network", &input.namespaces.network),
        ("ipc", &input.namespaces.ipc),
        ("uts", &input.namespaces.uts),
    ];
    for (kind, path) in shared {
        if let Some(path) = path {
            list.push(json!({"type": kind, "path": path}));
        }
    }
    if input.host.unified_cgroups && !input.privileged() {
        list.push(json!({"type": "cgroup"}));
    }
    list
}

/// Keys that tools know from containerd.
fn annotations(input: &SpecInput<'_>) -> Value {
    let pod = input.sandbox.metadata.clone().unwrap_or_default();
    let name = input.config.metadata.as_ref().map(|m| m.name.as_str()).unwrap_or_default();
    json!({
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-id": input.sandbox_id,
        "io.kubernetes.cri.container-name": name,
        "io.kubernetes.cri.image-name": input.image_name,
        "io.kubernetes.cri.sandbox-name": pod.name,
        "io.kubernetes.cri.sandbox-namespace": pod.namespace,
        "io.kubernetes.cri.sandbox-uid": pod.uid,
    })
}

fn selinux_label(input: &SpecInput<'_>) -> Option<String> {
    let options = input.security()?.selinux_options.as_ref()?;
    let level = if options.level.is_empty() { "s0" } else { options.level.as_str() };
    let set = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    (input.host.selinux && !input.privileged()).then(|| {
        let (user, role) = (set(&options.user, "system_u"), set(&options.role, "system_r"));
        format!("{user}:{role}:{}:{level}", set(&options.r#type, "container_t"))
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
