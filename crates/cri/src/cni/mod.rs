//! Runs network plugins by the CNI exec protocol (specification 1.1).

mod conf;
mod exec;
mod result;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use conf::{NetworkConf, load};
pub use result::NetworkResult;

use crate::disk;
use crate::error::{Error, Result};
use exec::Invocation;

/// What `UpdateRuntimeConfig`'s pod CIDR replaces in [`CniConfig::template`].
pub const POD_CIDR_PLACEHOLDER: &str = "{{.PodCIDR}}";
/// The name of the network interface in a pod.
const POD_INTERFACE: &str = "eth0";
/// The name of the file that the template becomes.
const GENERATED_CONF: &str = "10-corten.conflist";

/// Where networks are configured.
#[derive(Debug, Clone, Default)]
pub struct CniConfig {
    /// `*.conflist`, `*.conf` and `*.json`; the first by name is the pods' network.
    pub conf_dir: PathBuf,
    /// Where plugins are looked for, in this order.
    pub bin_dirs: Vec<PathBuf>,
    /// A network list to write into `conf_dir` when the kubelet says the node's pod CIDR, if it has none.
    pub template: Option<String>,
}

/// A pod as network plugins see it.
#[derive(Debug, Clone)]
pub struct Attachment<'a> {
    /// The sandbox.
    pub sandbox_id: &'a str,
    /// Its network namespace; `None` if it is gone.
    pub netns: Option<&'a Path>,
    /// For `CNI_ARGS`.
    pub pod_name: &'a str,
    /// For `CNI_ARGS`.
    pub pod_namespace: &'a str,
    /// For `CNI_ARGS`.
    pub pod_uid: &'a str,
    /// `portMappings`, `bandwidth` and so on, given to those plugins that ask for them.
    pub capabilities: Map<String, Value>,
}

/// What was done for a pod, kept until it is undone: the configuration may change meanwhile.
#[derive(Debug, Serialize, Deserialize)]
struct Cached {
    conf: NetworkConf,
    capabilities: Map<String, Value>,
    result: Option<Value>,
}

/// Attaches pods to their network.
#[derive(Debug, Clone)]
pub struct Cni {
    config: CniConfig,
    cache_dir: PathBuf,
}

impl Cni {
    /// A runner that keeps its results in `cache_dir`.
    pub fn new(config: CniConfig, cache_dir: PathBuf) -> Result<Self> {
        disk::make_private_dir(&cache_dir)?;
        Ok(Self { config, cache_dir })
    }

    /// `Ok` if there is a network to attach pods to; else why not, as the kubelet shows it.
    pub fn ready(&self) -> Result<()> {
        let conf = load(&self.config.conf_dir)?;
        conf.plugins.iter().try_for_each(|plugin| self.find(plugin).map(drop))
    }

    /// Writes the template's network for a pod CIDR, unless there is some configuration already.
    pub fn set_pod_cidr(&self, pod_cidr: &str) -> Result<()> {
        let Some(template) = &self.config.template else { return Ok(()) };
        let path = self.config.conf_dir.join(GENERATED_CONF);
        if pod_cidr.is_empty() || (load(&self.config.conf_dir).is_ok() && !path.exists()) {
            return Ok(());
        }
        std::fs::create_dir_all(&self.config.conf_dir).map_err(Error::io("make", &self.config.conf_dir))?;
        let text = template.replace(POD_CIDR_PLACEHOLDER, pod_cidr);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        disk::write_atomic(&path, text.as_bytes()).map_err(Error::io("write", &path))
    }

    /// Attaches a pod. On failure what was done is undone as far as possible.
    pub async fn add(&self, pod: &Attachment<'_>) -> Result<NetworkResult> {
        let conf = load(&self.config.conf_dir)?;
        // Cached before the first plugin runs, so that a crash in the middle can be cleaned up.
        let mut cached = Cached { conf, capabilities: pod.capabilities.clone(), result: None };
        disk::write_json(&self.cache_file(pod.sandbox_id), &cached)?;
        let added = self.add_all(pod, &cached).await.and_then(|value| {
            let result = NetworkResult::parse(&value)?;
            cached.result = Some(value);
            disk::write_json(&self.cache_file(pod.sandbox_id), &cached)?;
            Ok(result)
        });
        if added.is_err()
            && let Err(error) = self.del(pod).await
        {
            tracing::warn!(sandbox = pod.sandbox_id, %error, "network not cleaned up after a failure");
        }
        added
    }

    async fn add_all(&self, pod: &Attachment<'_>, cached: &Cached) -> Result<Value> {
        let mut previous = None;
        for plugin in &cached.conf.plugins {
            let stdin = cached.conf.input(plugin, &pod.capabilities, previous.as_ref());
            let output = self.invoke("ADD", pod, plugin, stdin).await?;
            // A plugin that says nothing passes on what it got.
            previous = output.or(previous);
        }
        previous.ok_or_else(|| Error::Network("the network plugins gave no result".to_owned()))
    }

    /// Detaches a pod; not an error if it is not attached.
    pub async fn del(&self, pod: &Attachment<'_>) -> Result<()> {
        let path = self.cache_file(pod.sandbox_id);
        let Some(cached) = disk::read_json::<Cached>(&path)? else { return Ok(()) };
        for plugin in cached.conf.plugins.iter().rev() {
            let stdin = cached.conf.input(plugin, &cached.capabilities, cached.result.as_ref());
            self.invoke("DEL", pod, plugin, stdin).await?;
        }
        std::fs::remove_file(&path).map_err(Error::io("remove", &path))
    }

    async fn invoke(
        &self,
        command: &'static str,
        pod: &Attachment<'_>,
        plugin: &Map<String, Value>,
        stdin: Value,
    ) -> Result<Option<Value>> {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            pod.pod_namespace, pod.pod_name, pod.sandbox_id, pod.pod_uid
        );
        let path: Vec<String> = self.config.bin_dirs.iter().map(|d| d.display().to_string()).collect();
        let env = BTreeMap::from([
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", pod.sandbox_id.to_owned()),
            ("CNI_NETNS", pod.netns.map(|p| p.display().to_string()).unwrap_or_default()),
            ("CNI_IFNAME", POD_INTERFACE.to_owned()),
            ("CNI_ARGS", args),
            ("CNI_PATH", path.join(":")),
        ]);
        let kind = conf::plugin_type(plugin).to_owned();
        Invocation { program: self.find(plugin)?, kind, command, env, stdin }.run().await
    }

    fn find(&self, plugin: &Map<String, Value>) -> Result<PathBuf> {
        let kind = conf::plugin_type(plugin);
        let found = self.config.bin_dirs.iter().map(|dir| dir.join(kind)).find(|path| path.is_file());
        found.ok_or_else(|| {
            let dirs = json!(self.config.bin_dirs);
            Error::Network(format!("failed to find plugin {kind:?} in path {dirs}"))
        })
    }

    fn cache_file(&self, sandbox_id: &str) -> PathBuf {
        self.cache_dir.join(format!("{sandbox_id}.json"))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
