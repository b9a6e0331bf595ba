//! AdmissionConfiguration (`--admission-control-config-file`): what plugins are told besides being on.

use std::path::Path;

use schema::Value;

use super::{event_rate_limit, node_selector, pod_security, toleration_restriction};

/// What the file says, by plugin.
#[derive(Debug, Clone, Default)]
pub struct PluginConfig {
    pub(super) pod_security: pod_security::Config,
    pub(super) event_rate_limit: Option<event_rate_limit::Config>,
    pub(super) node_selector: node_selector::Config,
    pub(super) toleration_restriction: toleration_restriction::Config,
}

impl PluginConfig {
    /// Reads the file and those that it names, relative to it. The error says what is wrong where.
    pub fn read(file: &Path) -> Result<Self, String> {
        let config = parse(file)?;
        let version = config.str_at("apiVersion").unwrap_or_default();
        let known = matches!(version, "apiserver.config.k8s.io/v1" | "apiserver.k8s.io/v1alpha1");
        if !known || config.str_at("kind") != Some("AdmissionConfiguration") {
            return Err(format!("{}: {version:?} is no version of AdmissionConfiguration", file.display()));
        }
        let mut read = Self::default();
        for plugin in config.items_at("plugins") {
            let name = plugin.str_at("name").unwrap_or_default();
            let inner = match plugin.str_at("path").filter(|path| !path.is_empty()) {
                Some(path) => parse(&file.parent().unwrap_or(Path::new("")).join(path))?,
                None => plugin.get("configuration").cloned().unwrap_or_default(),
            };
            if inner.is_null() {
                continue;
            }
            read.take(name, &inner).map_err(|why| format!("{}: plugin {name}: {why}", file.display()))?;
        }
        Ok(read)
    }

    fn take(&mut self, plugin: &str, config: &Value) -> Result<(), String> {
        match plugin {
            "PodSecurity" => self.pod_security = pod_security::Config::read(config)?,
            "EventRateLimit" => self.event_rate_limit = Some(event_rate_limit::Config::read(config)?),
            "PodNodeSelector" => self.node_selector = node_selector::Config::read(config),
            "PodTolerationRestriction" => {
                self.toleration_restriction = toleration_restriction::Config::read(config)?;
            }
            _ => return Err("takes no configuration here".to_owned()),
        }
        Ok(())
    }
}

fn parse(file: &Path) -> Result<Value, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    codec::yaml::parse(&bytes).map_err(|error| format!("{}: {error}", file.display()))
}
