//! Which objects a list or watch is of: label and field selectors over entries.

use schema::{Resource, SmolStr};
use store::Entry;

use super::Served;
use super::stored::{ObjectMemo, memo};
use crate::selectors::{FieldSelector, LabelSelector};
use crate::status::{ApiError, ApiResult};

/// Both selectors, with field labels checked against the resource.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// On labels.
    pub labels: LabelSelector,
    /// On fields.
    pub fields: FieldSelector,
}

/// Upstream's words, which differ between kinds with and without fields of their own.
fn unknown_field(served: &Served, field: &str) -> String {
    let resource = &served.resource;
    let own = served.hub.selectable_fields.iter().any(|f| !f.label.starts_with("metadata."));
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("batch", "jobs") => format!("field label {} not supported for batchv1.Job", rules::quote(field)),
        ("apps", "statefulsets") => format!("field label not supported for appsv1.StatefulSet: {field}"),
        _ if own || resource.custom => format!("field label not supported: {field}"),
        _ => format!(
            "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            rules::quote(field)
        ),
    }
}

impl Filter {
    /// Parses both; a field that the resource cannot be selected by is an error.
    pub fn parse(served: &Served, labels: Option<&str>, fields: Option<&str>) -> ApiResult<Self> {
        let labels = LabelSelector::parse(labels.unwrap_or_default()).map_err(ApiError::bad_request)?;
        let mut fields = FieldSelector::parse(fields.unwrap_or_default()).map_err(ApiError::bad_request)?;
        for term in &mut fields.terms {
            if term.field == "name" && served.resource.group.is_empty() && served.resource.plural == "nodes" {
                term.field = SmolStr::new_static("metadata.name");
            }
            if served.resource.group == "events.k8s.io"
                && let Some(stored) = crate::conversions::events::stored_field(&term.field)
            {
                term.field = stored.into();
            }
            let known = matches!(term.field.as_str(), "metadata.name" | "metadata.namespace")
                || served.hub.selectable_fields.iter().any(|f| f.label == term.field);
            if !known {
                return Err(ApiError::bad_request(unknown_field(served, &term.field)));
            }
        }
        Ok(Self { labels, fields })
    }

    /// True when every object passes.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// The one name that objects must have, if the selector says so.
    pub fn single_name(&self) -> Option<&SmolStr> {
        self.fields.required("metadata.name")
    }

    /// Whether an entry passes. `hub`: the resource in its stored version.
    pub fn matches(&self, hub: &Resource, entry: &Entry) -> bool {
        if self.is_everything() {
            return true;
        }
        let memo = memo(entry);
        self.labels.matches(|key| memo.label(entry, hub, key))
            && self
                .fields
                .terms
                .iter()
                .all(|term| (field_of(hub, entry, &memo, &term.field) == term.value) == term.equal)
    }
}

fn field_of<'a>(hub: &Resource, entry: &'a Entry, memo: &'a ObjectMemo, label: &str) -> &'a str {
    match label {
        "metadata.name" => key_parts(hub, entry).1,
        "metadata.namespace" => key_parts(hub, entry).0,
        label => memo.field(entry, hub, label).unwrap_or_default(),
    }
}

/// Namespace and name out of an entry's key.
pub(super) fn key_parts<'a>(hub: &Resource, entry: &'a Entry) -> (&'a str, &'a str) {
    let key = std::str::from_utf8(entry.key.as_bytes()).unwrap_or_default();
    let rest = key.get(hub.storage.prefix.len() + 1..).unwrap_or_default();
    match (hub.namespaced, rest.split_once('/')) {
        (true, Some((namespace, name))) => (namespace, name),
        _ => ("", rest),
    }
}
