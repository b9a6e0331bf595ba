//! PodTolerationRestriction: namespaces give their pods tolerations, and say which ones they may have.

use async_trait::async_trait;
use schema::{Value, value};

use crate::admission::{Admission, Attributes, Operation};
use crate::registry::Registry;
use crate::status::{ApiError, ApiResult};

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";
const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";

/// What holds for namespaces that say nothing.
#[derive(Debug, Clone, Default)]
pub struct Config {
    defaults: Vec<Value>,
    allowed: Vec<Value>,
}

impl Config {
    /// Reads `podtolerationrestriction.admission.k8s.io/v1alpha1`.
    pub fn read(config: &Value) -> Result<Self, String> {
        let list = |field: &str| config.get(field).map(|v| v.items().to_vec()).unwrap_or_default();
        Ok(Self { defaults: list("default"), allowed: list("whitelist") })
    }
}

/// See the module.
pub struct PodTolerationRestriction(pub Config);

impl PodTolerationRestriction {
    /// The tolerations that a namespace's annotation lists; else those of the configuration.
    fn listed(
        &self,
        attributes: &Attributes<'_>,
        registry: &Registry,
        annotation: &str,
        otherwise: &[Value],
    ) -> ApiResult<Vec<Value>> {
        let namespace = registry.find("", "namespaces", "", attributes.namespace)?;
        let annotations = namespace.as_ref().and_then(|n| n.map_at("metadata.annotations"));
        match annotations.and_then(|a| a.get_str(annotation)) {
            None => Ok(otherwise.to_vec()),
            Some("") => Ok(Vec::new()),
            Some(text) => {
                let parsed: Value = serde_json::from_str(text).map_err(ApiError::internal)?;
                Ok(parsed.items().to_vec())
            }
        }
    }
}

#[async_trait]
impl Admission for PodTolerationRestriction {
    fn name(&self) -> &'static str {
        "PodTolerationRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        if !attributes.is("", "pods") || attributes.operation != Operation::Create {
            return Ok(());
        }
        let mut defaults = self.listed(attributes, registry, DEFAULTS, &self.0.defaults)?;
        let own = attributes.object.items_at("spec.tolerations");
        if !super::is_best_effort(&attributes.object) {
            let pressure = value!({"key": MEMORY_PRESSURE, "operator": "Exists", "effect": "NoSchedule"});
            defaults.push(pressure);
        }
        defaults.retain(|one| !own.iter().any(|other| covers(other, one)));
        if !defaults.is_empty() {
            let spec = attributes.object.make_map().entry_map("spec");
            spec.entry_list("tolerations").append(&mut defaults);
        }
        Ok(())
    }

    async fn validate(&self, attributes: &mut Attributes<'_>, registry: &Registry) -> ApiResult<()> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let allowed = self.listed(attributes, registry, ALLOWED, &self.0.allowed)?;
        if allowed.is_empty() {
            return Ok(());
        }
        let own = attributes.object.items_at("spec.tolerations");
        match own.iter().all(|one| allowed.iter().any(|other| covers(other, one))) {
            true => Ok(()),
            false => Err(attributes.forbidden("pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist")),
        }
    }
}

/// Whether whatever `narrow` tolerates `wide` does as well.
fn covers(wide: &Value, narrow: &Value) -> bool {
    let text = |of: &Value, field: &str| of.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let either = |field: &str| text(wide, field).is_empty() || text(wide, field) == text(narrow, field);
    let exists = text(wide, "operator") == "Exists";
    let seconds = match (wide.int_at("tolerationSeconds"), narrow.int_at("tolerationSeconds")) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => wide >= narrow,
        (Some(_), None) => false,
    };
    either("key") && either("effect") && (exists || text(wide, "value") == text(narrow, "value")) && seconds
}
