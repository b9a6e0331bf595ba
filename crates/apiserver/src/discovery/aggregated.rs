//! Aggregated discovery: everything in one document (`apidiscovery.k8s.io/v2`).

use schema::{GroupVersionKind, Resource, Value, value};

use super::legacy::GroupVersions;
use crate::registry::ResourceTable;

/// `/api`
pub fn core(table: &ResourceTable) -> Value {
    list(vec![value!({"metadata": {}, "versions": [(version(table, "", "v1"))]})])
}

/// `/apis`
pub fn groups(table: &ResourceTable, groups: &[GroupVersions]) -> Value {
    let items = groups.iter().map(|group| {
        let versions: Vec<Value> = group.versions.iter().map(|v| version(table, &group.name, v)).collect();
        value!({"metadata": {"name": (group.name.clone())}, "versions": (Value::List(versions))})
    });
    list(items.collect())
}

fn list(items: Vec<Value>) -> Value {
    value!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": (Value::List(items))
    })
}

fn version(table: &ResourceTable, group: &str, version: &str) -> Value {
    let resources: Vec<Value> = table
        .all()
        .iter()
        .map(|served| &served.resource)
        .filter(|r| r.group == group && r.version == version)
        .map(|r| resource(r))
        .collect();
    let mut out = value!({"version": version, "resources": (Value::List(resources))});
    out.insert("freshness", "Current");
    out
}

fn resource(resource: &Resource) -> Value {
    let mut out = value!({
        "resource": (resource.plural.clone()), "responseKind": (kind(&resource.gvk(), resource)),
        "scope": (if resource.namespaced { "Namespaced" } else { "Cluster" }),
        "singularResource": (resource.singular.clone()), "verbs": (resource.verbs.clone())
    });
    if !resource.short_names.is_empty() {
        out.insert("shortNames", resource.short_names.clone());
    }
    if !resource.categories.is_empty() {
        out.insert("categories", resource.categories.clone());
    }
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|sub| {
            value!({
                "subresource": (sub.name.clone()), "responseKind": (kind(&sub.kind, resource)),
                "verbs": (sub.verbs.clone())
            })
        })
        .collect();
    if !subresources.is_empty() {
        out.insert("subresources", Value::List(subresources));
    }
    out
}

/// Built-in kinds of the group and version itself leave these out.
fn kind(kind: &GroupVersionKind, resource: &Resource) -> Value {
    let own = kind.group == resource.group && kind.version == resource.version && !resource.custom;
    let (group, version) = if own { ("", "") } else { (kind.group.as_str(), kind.version.as_str()) };
    value!({"group": group, "version": version, "kind": (kind.kind.clone())})
}
