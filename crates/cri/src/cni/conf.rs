//! Network configuration files.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The kubelet and its users know this text.
const NOT_INITIALIZED: &str = "cni plugin not initialized";
const DEFAULT_VERSION: &str = "0.3.1";

/// A list of plugins that together make a network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkConf {
    /// The version of the protocol that the plugins are to speak.
    #[serde(default = "default_version")]
    pub cni_version: String,
    /// The network's name.
    pub name: String,
    /// In the order of ADD.
    pub plugins: Vec<Map<String, Value>>,
}

fn default_version() -> String {
    DEFAULT_VERSION.to_owned()
}

/// The first usable configuration in `dir`, by file name.
pub fn load(dir: &Path) -> Result<NetworkConf> {
    let mut files: Vec<PathBuf> = match fs::read_dir(dir) {
        Ok(entries) => entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| is_conf(p)).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    let mut first_error = None;
    for file in &files {
        match parse(file) {
            Ok(conf) => return Ok(conf),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    let why = first_error.unwrap_or_else(|| format!("no network config found in {}", dir.display()));
    Err(Error::Network(format!("{NOT_INITIALIZED}: {why}")))
}

fn is_conf(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "conflist" || e == "conf" || e == "json")
}

fn parse(path: &Path) -> Result<NetworkConf, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = fs::read(path).map_err(|e| wrong(&e))?;
    let value: Value = serde_json::from_slice(&text).map_err(|e| wrong(&e))?;
    let conf: NetworkConf = if value.get("plugins").is_some() {
        serde_json::from_value(value).map_err(|e| wrong(&e))?
    } else {
        let single: Map<String, Value> = serde_json::from_value(value).map_err(|e| wrong(&e))?;
        let text = |key: &str| single.get(key).and_then(Value::as_str).map(str::to_owned);
        NetworkConf {
            cni_version: text("cniVersion").unwrap_or_else(default_version),
            name: text("name").ok_or_else(|| wrong(&"the network has no name"))?,
            plugins: vec![single],
        }
    };
    let nameless = |p: &Map<String, Value>| {
        let kind = plugin_type(p);
        kind.is_empty() || kind.contains('/') || kind == ".."
    };
    if conf.plugins.is_empty() || conf.plugins.iter().any(nameless) {
        return Err(wrong(&"no plugins, or one without a type"));
    }
    Ok(conf)
}

/// The program's name.
pub fn plugin_type(plugin: &Map<String, Value>) -> &str {
    plugin.get("type").and_then(Value::as_str).unwrap_or_default()
}

impl NetworkConf {
    /// What a plugin reads: its own configuration with the list's name and version, the previous result, and of the
    /// capabilities those that it asks for.
    pub fn input(
        &self,
        plugin: &Map<String, Value>,
        capabilities: &Map<String, Value>,
        previous: Option<&Value>,
    ) -> Value {
        let mut input = plugin.clone();
        input.insert("name".to_owned(), self.name.clone().into());
        input.insert("cniVersion".to_owned(), self.cni_version.clone().into());
        if let Some(Value::Object(wanted)) = input.remove("capabilities") {
            let asked = |name: &String| wanted.get(name).and_then(Value::as_bool) == Some(true);
            let given: Map<String, Value> =
                capabilities.iter().filter(|(k, _)| asked(k)).map(|(k, v)| (k.clone(), v.clone())).collect();
            if !given.is_empty() {
                input.insert("runtimeConfig".to_owned(), Value::Object(given));
            }
        }
        if let Some(previous) = previous {
            input.insert("prevResult".to_owned(), previous.clone());
        }
        Value::Object(input)
    }
}
