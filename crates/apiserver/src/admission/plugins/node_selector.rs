//! PodNodeSelector: an annotation of the namespace says on which nodes its pods may run.

use std::collections::BTreeMap;

use async_trait::async_trait;
use schema::Value;

use crate::admission::{Admission, Attributes, Operation};
use crate::registry::Registry;
use crate::status::{ApiError, ApiResult};

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
const CONFIG: &str = "podNodeSelectorPluginConfig";
const CLUSTER_DEFAULT: &str = "clusterDefaultNodeSelector";

/// Selectors by namespace; for those that say nothing the one of `clusterDefaultNodeSelector`.
#[derive(Debug, Clone, Default)]
pub struct Config(BTreeMap<String, String>);

impl Config {
    /// Reads `podNodeSelectorPluginConfig`.
    pub fn read(config: &Value) -> Self {
        let entries = config.get(CONFIG).map(Value::entries).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self(entries.iter().filter_map(|(k, v)| Some((k.to_string(), text(v)?))).collect())
    }
}

/// See the module.
pub struct PodNodeSelector(pub Config);

/// `a=b,c=d` as pairs.
fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let one = |part: &str| {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("invalid selector: {part}"))?;
        Ok((key.trim().to_owned(), value.trim_start_matches('=').trim().to_owned()))
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(one).collect()
}

#[async_trait]
impl Admission for PodNodeSelector {
    fn name(&self) -> &'static str {
        "PodNodeSelector"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let wanted = self.of_namespace(attributes, registry)?;
        for (key, value) in &wanted {
            let own =
                attributes.object.map_at("spec.nodeSelector").and_then(|selector| selector.get_str(key));
            if own.is_some_and(|own| own != value) {
                return Err(conflict(attributes));
            }
            let spec = attributes.object.make_map().entry_map("spec");
            spec.entry_map("nodeSelector").insert(key.as_str(), value.as_str());
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let selector = attributes.object.map_at("spec.nodeSelector");
        let own = |key: &str| selector.and_then(|selector| selector.get_str(key));
        if self.of_namespace(attributes, registry)?.iter().any(|(k, v)| own(k).is_some_and(|own| own != v)) {
            return Err(conflict(attributes));
        }
        let allowed = self.0.0.get(attributes.namespace).map(|text| pairs(text)).transpose();
        let allowed = allowed.map_err(ApiError::internal_plain)?.filter(|allowed| !allowed.is_empty());
        let outside = allowed.is_some_and(|allowed| {
            selector
                .into_iter()
                .flat_map(|s| s.iter())
                .any(|(k, v)| allowed.get(k.as_str()).map(String::as_str) != v.as_str())
        });
        if outside {
            return Err(
                attributes.forbidden("pod node label selector labels conflict with its namespace whitelist")
            );
        }
        Ok(())
    }
}

fn conflict(attributes: &Attributes<'_>) -> ApiError {
    attributes.forbidden("pod node label selector conflicts with its namespace node label selector")
}

impl PodNodeSelector {
    fn of_namespace(
        &self,
        attributes: &Attributes<'_>,
        registry: &Registry,
    ) -> ApiResult<BTreeMap<String, String>> {
        let namespace = registry.find("", "namespaces", "", attributes.namespace)?;
        let annotations = namespace.as_ref().and_then(|n| n.map_at("metadata.annotations"));
        let text = annotations.and_then(|a| a.get_str(ANNOTATION));
        let text = text.or_else(|| self.0.0.get(CLUSTER_DEFAULT).map(String::as_str)).unwrap_or_default();
        pairs(text).map_err(ApiError::internal_plain)
    }
}
