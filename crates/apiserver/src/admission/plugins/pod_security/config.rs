//! PodSecurityConfiguration (`pod-security.admission.config.k8s.io`).

use rules::FieldError;
use schema::{Map, Value};

use super::policy::{Level, Policy, Version};

const GROUP: &str = "pod-security.admission.config.k8s.io/";

/// What holds without labels, and for whom nothing holds.
#[derive(Debug, Clone)]
pub struct Config {
    /// For namespaces without labels.
    pub(super) defaults: Policy,
    pub(super) exempt_users: Vec<String>,
    pub(super) exempt_namespaces: Vec<String>,
    pub(super) exempt_classes: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            defaults: Policy::PRIVILEGED,
            exempt_users: Vec::new(),
            exempt_namespaces: Vec::new(),
            exempt_classes: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the configuration; the error says what is wrong with it.
    pub fn read(config: &Value) -> Result<Self, String> {
        let version = config.str_at("apiVersion").unwrap_or_default();
        if !matches!(version.strip_prefix(GROUP), Some("v1" | "v1beta1" | "v1alpha1"))
            || config.str_at("kind") != Some("PodSecurityConfiguration")
        {
            return Err(format!("{version:?} is no version of PodSecurityConfiguration"));
        }
        let mut read = Self::default();
        let defaults = &mut read.defaults;
        for (name, mode) in
            [("enforce", &mut defaults.enforce), ("audit", &mut defaults.audit), ("warn", &mut defaults.warn)]
        {
            let text = |field: &str| config["defaults"].get(field).and_then(Value::as_str);
            let field = format!("{name}-version");
            if let Some(level) = text(name) {
                mode.level =
                    Level::parse(level).map_err(|why| format!("defaults.{name}: {level:?}: {why}"))?;
            }
            if let Some(version) = text(&field) {
                mode.version =
                    Version::parse(version).map_err(|why| format!("defaults.{field}: {version:?}: {why}"))?;
            }
        }
        let list = |field: &str| -> Vec<String> {
            let all = config["exemptions"].get(field).map(Value::items).unwrap_or_default();
            all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        read.exempt_users = list("usernames");
        read.exempt_namespaces = list("namespaces");
        read.exempt_classes = list("runtimeClasses");
        Ok(read)
    }

    pub(super) fn policy(&self, labels: Option<&Map>) -> (Policy, Vec<FieldError>) {
        Policy::of(labels, self.defaults)
    }
}
