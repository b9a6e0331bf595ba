//! Daemon sets: the generation of their template is told in an annotation.

use schema::Value;

use super::{Generic, Strategy};

/// Where it is told (`DeprecatedTemplateGeneration`).
pub const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// See the module.
pub struct DaemonSets(pub Generic);

impl Strategy for DaemonSets {
    fn generic(&self) -> &Generic {
        &self.0
    }

    fn default_fields(&self, set: &mut Value) {
        let annotations = set.make_map().entry_map("metadata").entry_map("annotations");
        annotations.entry(TEMPLATE_GENERATION, || Value::str("0"));
        self.0.default_fields(set);
    }
}
