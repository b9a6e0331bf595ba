//! Pod templates of workloads.

use schema::Value;

use super::warnings::of_template_at;
use super::{annotations, validate_pod_spec};
use crate::Cursor;
use crate::field::Errors;
use crate::kinds::KindRules;
use crate::meta::{validate_annotations, validate_labels};

/// The kind `PodTemplate`.
pub(in crate::kinds) const RULES: KindRules = KindRules {
    defaults: |object| default_template(object, &["template"]),
    warnings: |new, old| of_template_at(new, old, "template"),
    validate: |object, _, out| validate_template(&object.field("template"), out),
    validate_update: |object, _, write, out| (RULES.validate)(object, write, out),
    ..KindRules::NONE
};

/// Defaults of the template at `path`.
pub(in crate::kinds) fn default_template(object: &mut Value, path: &[&str]) {
    let Some(template) = object.pointer_mut(path) else { return };
    if let Some(spec) = template.get_mut("spec") {
        super::defaults::default_pod_spec(spec);
    }
}

/// `ValidatePodTemplateSpec`.
pub(in crate::kinds) fn validate_template(c: &Cursor<'_>, out: &mut Errors) {
    let metadata = &c.value["metadata"];
    out.extend(validate_labels(metadata.get("labels"), &c.path.child("labels")));
    out.extend(validate_annotations(metadata.get("annotations"), &c.path.child("annotations")));
    let spec = c.field("spec");
    let annotations = Cursor::new(&metadata["annotations"], c.path.child("annotations"));
    annotations::validate_annotations(&annotations, &spec, out);
    validate_pod_spec(&spec, "", false, out);
    annotations::validate_matching(&metadata["annotations"], &spec, out);
    if !spec.field("ephemeralContainers").is_empty() {
        spec.field("ephemeralContainers").forbidden(out, "ephemeral containers not allowed in pod template");
    }
}
