//! The part of the OCI runtime specification (`config.json`, version 1.2) that this runtime knows.
//!
//! Fields that ask for something it cannot do are read too, so that [`Spec::validate`] can refuse them by name.

mod linux;
mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use linux::{
    Device, DeviceRule, HugepageLimit, Linux, LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxPids,
    Namespace, NamespaceKind, Resources, Seccomp, SeccompArg, SeccompSyscall, ThrottleDevice, WeightDevice,
};

use crate::error::{Context, Error, Result};

/// A container's configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// Version of the specification, `1.x.y`.
    pub oci_version: String,
    /// The container's first process.
    pub process: Option<Process>,
    /// Its root file system.
    pub root: Option<Root>,
    /// Host name in a new UTS namespace.
    pub hostname: String,
    /// NIS domain name in a new UTS namespace.
    pub domainname: String,
    /// In this order.
    pub mounts: Vec<Mount>,
    /// Programs to run at points of the container's life.
    pub hooks: Hooks,
    /// Free-form facts, passed to hooks.
    pub annotations: BTreeMap<String, String>,
    /// Everything particular to Linux.
    pub linux: Linux,
}

/// A process to run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Process {
    /// Give it a pseudo-terminal.
    pub terminal: bool,
    /// The terminal's first size.
    pub console_size: Option<ConsoleSize>,
    /// Its credentials.
    pub user: User,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Absolute, inside the container; made if it does not exist.
    pub cwd: String,
    /// `None`: none at all.
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Never gain privileges by exec.
    pub no_new_privileges: bool,
    /// Ignored, with a message.
    pub apparmor_profile: String,
    /// Ignored, with a message.
    pub selinux_label: String,
    /// -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Refused.
    pub scheduler: Option<Value>,
    /// Refused.
    pub io_priority: Option<Value>,
    /// Refused.
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<Value>,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsoleSize {
    /// Lines.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// A process's credentials.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
}

/// Sets of capability names (`CAP_CHOWN`).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// What can ever be gained.
    pub bounding: Vec<String>,
    /// What is in force.
    pub effective: Vec<String>,
    /// What files may pass on.
    pub inheritable: Vec<String>,
    /// What may be put in force.
    pub permitted: Vec<String>,
    /// What survives an exec without file capabilities.
    pub ambient: Vec<String>,
}

/// One resource limit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The ceiling.
    pub hard: u64,
    /// The limit in force.
    pub soft: u64,
}

/// The root file system.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: PathBuf,
    /// Nothing on it may be changed.
    pub readonly: bool,
}

/// Something to mount.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mount {
    /// Absolute, inside the container.
    pub destination: String,
    /// The file system's type; `bind` or empty for a bind mount.
    #[serde(rename = "type")]
    pub kind: String,
    /// A device, a name, or for bind mounts a path outside (relative to the bundle).
    pub source: String,
    /// Mount options.
    pub options: Vec<String>,
    /// Refused.
    pub uid_mappings: Vec<Value>,
    /// Refused.
    pub gid_mappings: Vec<Value>,
}

impl Mount {
    /// True if it makes a file or directory visible a second time.
    pub fn is_bind(&self) -> bool {
        self.kind == "bind" || self.options.iter().any(|o| o == "bind" || o == "rbind")
    }
}

/// Programs to run at points of a container's life.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Hooks {
    /// By the runtime, before the root is entered (deprecated form of `createRuntime`).
    pub prestart: Vec<Hook>,
    /// By the runtime, before the root is entered.
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before the root is entered.
    pub create_container: Vec<Hook>,
    /// In the container, before its command.
    pub start_container: Vec<Hook>,
    /// By the runtime, after the command was started.
    pub poststart: Vec<Hook>,
    /// By the runtime, after the container was deleted.
    pub poststop: Vec<Hook>,
}

/// One program to run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// Absolute.
    pub path: PathBuf,
    /// With the program's name as the first.
    pub args: Vec<String>,
    /// `NAME=value`; nothing is inherited.
    pub env: Vec<String>,
    /// Seconds.
    pub timeout: Option<u64>,
}

impl Spec {
    /// Reads a bundle's `config.json`.
    pub fn load(bundle: &Path) -> Result<Self> {
        read_json(&bundle.join("config.json"))
    }
}

/// Reads a JSON file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).doing(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))
}
