//! Namespaces: they end when their own finalizers are gone.

use schema::{Value, value};

use super::{Context, Generic, Strategy};

/// The label by which selectors name a namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const FINALIZER: &str = "kubernetes";

/// See the module.
pub struct Namespaces(pub Generic);

impl Strategy for Namespaces {
    fn generic(&self) -> &Generic {
        &self.0
    }

    fn default_fields(&self, namespace: &mut Value) {
        self.0.default_fields(namespace);
        let name = namespace.str_at("metadata.name").unwrap_or_default().to_owned();
        if !name.is_empty() {
            let metadata = namespace.make_map().entry_map("metadata");
            metadata.entry_map("labels").insert(NAME_LABEL, name);
        }
    }

    fn prepare_for_create(&self, context: &Context<'_>, namespace: &mut Value) {
        self.0.prepare_for_create(context, namespace);
        let name = namespace.str_at("metadata.name").unwrap_or_default().to_owned();
        let metadata = namespace.make_map().entry_map("metadata");
        metadata.entry_map("labels").insert(NAME_LABEL, name);
        namespace.insert("status", value!({"phase": "Active"}));
        let finalizers = namespace.make_map().entry_map("spec").entry_list("finalizers");
        if !finalizers.iter().any(|f| f.as_str() == Some(FINALIZER)) {
            finalizers.push(Value::str(FINALIZER));
        }
    }

    fn prepare_for_update(&self, context: &Context<'_>, new: &mut Value, old: &Value) {
        if context.subresource != "finalize" {
            match old.at("spec.finalizers") {
                Some(finalizers) => new.set("spec.finalizers", finalizers),
                None => new.remove_at("spec.finalizers"),
            };
        }
        self.0.prepare_for_update(context, new, old);
    }

    fn deletion_blocked(&self, namespace: &Value) -> bool {
        !namespace.items_at("spec.finalizers").is_empty()
    }

    fn mark_deleting(&self, namespace: &mut Value, _: &str) {
        namespace.set("status.phase", "Terminating");
        if let Some(metadata) = namespace.get_mut("metadata") {
            metadata.remove("deletionGracePeriodSeconds");
        }
    }
}
