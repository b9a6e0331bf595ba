//! What the API serves: resources with their names, verbs, subresources, columns and storage.

use smol_str::{SmolStr, format_smolstr};

use crate::names::{GroupVersion, GroupVersionKind, GroupVersionResource};
use crate::node::Schema;

/// One resource in one version, built in or custom.
#[derive(Debug, Clone)]
pub struct Resource {
    /// API group; empty for core.
    pub group: SmolStr,
    /// API version.
    pub version: SmolStr,
    /// Plural name, as in URLs.
    pub plural: SmolStr,
    /// Singular name.
    pub singular: SmolStr,
    /// Kind.
    pub kind: SmolStr,
    /// Kind of a list of them, e.g. `PodList`; empty when it cannot be listed.
    pub list_kind: SmolStr,
    /// Short names, e.g. `po`.
    pub short_names: Vec<SmolStr>,
    /// Categories, e.g. `all`.
    pub categories: Vec<SmolStr>,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// Verbs in discovery's order.
    pub verbs: Vec<SmolStr>,
    /// Subresources in discovery's order.
    pub subresources: Vec<Subresource>,
    /// The kind's type.
    pub schema: Schema,
    /// Additional printer columns; empty means NAME and AGE. Built-in cells come from `openapi::table`.
    pub columns: Vec<Column>,
    /// Fields that a field selector may name, besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<SelectableField>,
    /// Where it is stored.
    pub storage: Storage,
    /// A custom resource.
    pub custom: bool,
}

/// A subresource, e.g. `pods/status`.
#[derive(Debug, Clone)]
pub struct Subresource {
    /// Last part of the URL, e.g. `status`.
    pub name: SmolStr,
    /// Kind that it takes and gives, with its own group and version (`autoscaling/v1` for scale).
    pub kind: GroupVersionKind,
    /// Verbs in discovery's order.
    pub verbs: Vec<SmolStr>,
    /// The type of `kind`.
    pub schema: Schema,
}

/// A column of a Table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Column {
    /// Heading.
    pub name: SmolStr,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`.
    pub data_type: SmolStr,
    /// OpenAPI format, e.g. `name`.
    pub format: SmolStr,
    /// Explanation.
    pub description: SmolStr,
    /// 0 for always, above for wide output.
    pub priority: i32,
    /// Where the cell's value is (custom kinds), e.g. `.spec.replicas`.
    pub json_path: SmolStr,
}

/// A field that a field selector may name.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectableField {
    /// As written in the selector, e.g. `spec.nodeName`.
    pub label: SmolStr,
    /// Where the value may be, mostly one place of the same name; the first that is there counts.
    pub paths: Vec<Vec<SmolStr>>,
    /// What the field reads as where it is absent: the zero value of its type as Go prints it (`false`, `0`, or nothing).
    pub absent: SmolStr,
}

/// Where and in which version objects are stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Storage {
    /// Key prefix without slash at the end: `/registry/pods`, `/registry/apiregistration.k8s.io/apiservices`.
    pub prefix: SmolStr,
    /// Group and version in which objects are written.
    pub version: GroupVersion,
}

impl Resource {
    /// Group and version.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion::new(self.group.clone(), self.version.clone())
    }

    /// Group, version and kind.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.group.clone(), self.version.clone(), self.kind.clone())
    }

    /// Group, version and plural name.
    pub fn gvr(&self) -> GroupVersionResource {
        GroupVersionResource::new(self.group.clone(), self.version.clone(), self.plural.clone())
    }

    /// As written in `apiVersion`.
    pub fn api_version(&self) -> SmolStr {
        crate::names::api_version(&self.group, &self.version)
    }

    /// `deployments.apps`, or `pods` in the core group: how Status messages and RBAC name it.
    pub fn group_resource(&self) -> SmolStr {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format_smolstr!("{}.{}", self.plural, self.group)
        }
    }

    /// True when the resource itself takes `verb`.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Storage key of one object: `/registry/pods/default/nginx`; `namespace` is ignored for cluster-wide ones.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.namespaced {
            format!("{}/{namespace}/{name}", self.storage.prefix)
        } else {
            format!("{}/{name}", self.storage.prefix)
        }
    }

    /// Key prefix of all objects, or of those in one namespace, with a slash at the end.
    pub fn key_prefix(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) if self.namespaced => format!("{}/{namespace}/", self.storage.prefix),
            _ => format!("{}/", self.storage.prefix),
        }
    }
}
