//! Definitions of custom resources.

use schema::{Value, value};

use super::{Context, Generic, Strategy};
use crate::crd::CLEANUP_FINALIZER;

/// See the module.
pub struct Definitions(pub Generic);

impl Strategy for Definitions {
    fn generic(&self) -> &Generic {
        &self.0
    }

    fn default_fields(&self, definition: &mut Value) {
        let Some(spec) = definition.get_mut("spec").and_then(Value::as_map_mut) else { return };
        spec.entry("conversion", || value!({"strategy": "None"}));
        let names = spec.entry_map("names");
        let kind = names.get_str("kind").unwrap_or_default().to_owned();
        if names.get("singular").is_none_or(Value::is_zero) && !kind.is_empty() {
            names.insert("singular", kind.to_lowercase());
        }
        if names.get("listKind").is_none_or(Value::is_zero) && !kind.is_empty() {
            names.insert("listKind", format!("{kind}List"));
        }
        self.0.default_fields(definition);
    }

    fn prepare_for_create(&self, context: &Context<'_>, definition: &mut Value) {
        let stored: Vec<Value> = definition
            .items_at("spec.versions")
            .iter()
            .filter(|v| v.bool_at("storage") == Some(true))
            .filter_map(|v| v.get("name").cloned())
            .collect();
        definition.insert(
            "status",
            value!({
                "conditions": null, "acceptedNames": {"plural": "", "kind": ""},
                "storedVersions": (Value::List(stored))
            }),
        );
        self.0.prepare_for_create(context, definition);
    }

    fn prepare_for_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        // A new storage version joins the stored ones at once, before an object can be written in it.
        if context.subresource.is_empty() {
            let storage = new.items_at("spec.versions").iter().find(|v| v.bool_at("storage") == Some(true));
            if let Some(name) = storage.and_then(|v| v.str_at("name")).map(str::to_owned) {
                let stored = new.make_map().entry_map("status").entry_list("storedVersions");
                if !stored.iter().any(|v| v.as_str() == Some(&name)) {
                    stored.push(name.into());
                }
            }
        }
        self.0.prepare_for_update(context, new, old);
    }

    fn mark_deleting(&self, definition: &mut Value, now: &str) {
        let metadata = definition.make_map().entry_map("metadata");
        let finalizers = metadata.entry_list("finalizers");
        if !finalizers.iter().any(|f| f.as_str() == Some(CLEANUP_FINALIZER)) {
            finalizers.push(Value::str(CLEANUP_FINALIZER));
        }
        metadata.remove("deletionGracePeriodSeconds");
        let status = definition.make_map().entry("status", Value::map);
        let words = "CustomResource deletion is pending";
        let terminating = value!({
            "type": "Terminating", "status": "True", "reason": "InstanceDeletionPending", "message": words,
            "lastTransitionTime": now
        });
        let conditions = status.make_map().entry_list("conditions");
        if !conditions.iter().any(|c| c.str_at("type") == Some("Terminating")) {
            conditions.push(terminating);
        }
    }

    /// A definition that served something goes when its objects are gone, which the cleanup says by its finalizer.
    fn deletion_blocked(&self, definition: &Value) -> bool {
        definition["metadata"]["deletionTimestamp"].is_null()
    }
}
