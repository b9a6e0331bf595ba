//! Plain discovery: APIGroupList, APIGroup, APIResourceList.

use base64::Engine;
use schema::{Resource, SmolStr, Value, value};

use crate::registry::ResourceTable;

/// One group with its versions, preferred first.
pub struct GroupVersions {
    /// Not empty: core is no group here.
    pub name: SmolStr,
    /// In order of preference.
    pub versions: Vec<SmolStr>,
}

/// All groups but core, in order.
pub fn groups(table: &ResourceTable) -> Vec<GroupVersions> {
    let mut groups: Vec<GroupVersions> = Vec::new();
    for served in table.all().iter().filter(|s| !s.resource.group.is_empty()) {
        let (group, version) = (&served.resource.group, &served.resource.version);
        match groups.iter_mut().find(|g| g.name == *group) {
            Some(known) if known.versions.contains(version) => {}
            Some(known) => known.versions.push(version.clone()),
            None => groups.push(GroupVersions { name: group.clone(), versions: vec![version.clone()] }),
        }
    }
    let builtin = schema::Catalog::builtin().groups();
    for group in &mut groups {
        let preference = builtin.iter().find(|b| b.name == group.name).map(|b| b.versions.as_slice());
        match preference {
            Some(order) => group.versions.sort_by_key(|v| order.iter().position(|o| o == v)),
            None => group.versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version))),
        }
    }
    let place = |name: &str| builtin.iter().position(|b| b.name == name).unwrap_or(usize::MAX);
    groups.sort_by(|a, b| place(&a.name).cmp(&place(&b.name)).then(a.name.cmp(&b.name)));
    groups
}

/// Order of versions like `v1`, `v1beta2`, `v1alpha1` (`version.CompareKubeAwareVersionStrings`).
pub fn version_priority(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let parsed = (|| {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse::<u64>().ok()?;
        let (class, minor) = match &rest[digits..] {
            "" => (3, 0),
            tail => match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
                (Some(minor), _) => (2, minor.parse().ok()?),
                (_, Some(minor)) => (1, minor.parse().ok()?),
                _ => return None,
            },
        };
        Some((class, major, minor))
    })();
    let (class, major, minor) = parsed.unwrap_or((0, 0, 0));
    let name = if class == 0 { version.to_owned() } else { String::new() };
    (class, major, minor, std::cmp::Reverse(name))
}

fn group_version(group: &str, version: &str) -> Value {
    value!({"groupVersion": (schema::api_version(group, version)), "version": version})
}

fn group_body(group: &GroupVersions) -> Value {
    let versions: Vec<Value> = group.versions.iter().map(|v| group_version(&group.name, v)).collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    value!({"name": (group.name.clone()), "versions": (Value::List(versions)), "preferredVersion": (preferred)})
}

/// `/apis/GROUP`
pub fn api_group(group: &GroupVersions) -> Value {
    let mut body = group_body(group);
    body.insert("kind", "APIGroup");
    body.insert("apiVersion", "v1");
    body
}

/// `/apis`
pub fn group_list(groups: &[GroupVersions]) -> Value {
    let groups: Vec<Value> = groups.iter().map(group_body).collect();
    value!({"kind": "APIGroupList", "apiVersion": "v1", "groups": (Value::List(groups))})
}

/// `/apis/GROUP/VERSION`, `/api/v1`
pub fn resources(table: &ResourceTable, group: &str, version: &str) -> Value {
    let mut list = Vec::new();
    for served in table.all().iter().filter(|s| s.resource.group == group && s.resource.version == version) {
        add_resource(&served.resource, &served.hub, &mut list);
    }
    let mut out = value!({
        "kind": "APIResourceList", "groupVersion": (schema::api_version(group, version)),
        "resources": (Value::List(list))
    });
    if !group.is_empty() {
        out.insert("apiVersion", "v1");
    }
    out
}

fn add_resource(resource: &Resource, hub: &Resource, list: &mut Vec<Value>) {
    let mut body = value!({
        "name": (resource.plural.clone()), "singularName": (resource.singular.clone()),
        "namespaced": (resource.namespaced), "kind": (resource.kind.clone()),
        "verbs": (resource.verbs.clone())
    });
    if !resource.short_names.is_empty() {
        body.insert("shortNames", resource.short_names.clone());
    }
    if !resource.categories.is_empty() {
        body.insert("categories", resource.categories.clone());
    }
    if resource.has_verb("watch") {
        body.insert("storageVersionHash", storage_version_hash(hub));
    }
    list.push(body);
    for sub in &resource.subresources {
        let mut body = value!({
            "name": (format!("{}/{}", resource.plural, sub.name)), "singularName": "",
            "namespaced": (resource.namespaced), "kind": (sub.kind.kind.clone()), "verbs": (sub.verbs.clone())
        });
        if sub.kind.group != resource.group || sub.kind.version != resource.version {
            if !sub.kind.group.is_empty() {
                body.insert("group", sub.kind.group.clone());
            }
            body.insert("version", sub.kind.version.clone());
        }
        list.push(body);
    }
}

/// Tells clients when the stored version changes (`StorageVersionHash`).
fn storage_version_hash(hub: &Resource) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, hub.gvk().to_string().as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_upstream_does() {
        let mut versions = ["foo", "v1alpha1", "v2", "v1beta2", "v10", "v1", "v1beta1"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo"]);
    }
}
