//! Roles and bindings made at start, and brought back when they were changed (`rbac-defaults`).

use schema::{Map, SmolStr, Value, value};

/// The table of roles and bindings.
const POLICY: &str = include_str!("policy.txt");
/// Group of the kinds.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// An object to make, with the plural name of its resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Default {
    /// `clusterroles`, …
    pub plural: &'static str,
    /// The object.
    pub object: Value,
}

/// The default roles and bindings, roles first.
pub fn defaults() -> Vec<Default> {
    let mut all: Vec<Default> = Vec::new();
    for line in POLICY.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        if line.starts_with(' ') {
            if let Some(role) = all.last_mut() {
                let rules = role.object.make_map().entry_list("rules");
                rules.push(rule(words));
            }
            continue;
        }
        match words.next() {
            Some("clusterrole") => all.push(cluster_role(words)),
            Some("role") => {
                let (namespace, name) = (word(&mut words), word(&mut words));
                all.push(object("roles", "Role", namespace, name, &[]));
            }
            Some("clusterrolebinding") => {
                let (name, role) = (word(&mut words), word(&mut words));
                let base = object("clusterrolebindings", "ClusterRoleBinding", "", name, &[]);
                all.push(binding(base, "ClusterRole", role, words));
            }
            Some("rolebinding") => {
                let (namespace, name) = (word(&mut words), word(&mut words));
                let (kind, role) = word(&mut words).split_once('/').unwrap_or(("role", ""));
                let base = object("rolebindings", "RoleBinding", namespace, name, &[]);
                all.push(binding(base, if kind == "role" { "Role" } else { "ClusterRole" }, role, words));
            }
            _ => {}
        }
    }
    all
}

/// The lists that a default has at least.
const LISTS: [&str; 2] = ["rules", "subjects"];

/// True if `live` lacks something of the default.
pub fn lacks(live: &Value, default: &Value) -> bool {
    let mut next = live.clone();
    restore(&mut next, default);
    next != *live
}

/// Gives back to `live` what of the default is missing: rules, subjects, labels and annotations.
pub fn restore(live: &mut Value, default: &Value) {
    for list in LISTS {
        // The rules of aggregating roles are a controller's work.
        if default.get("aggregationRule").is_some() {
            continue;
        }
        for item in default.items_at(list) {
            let have = live.make_map().entry_list(list);
            if !have.contains(item) {
                have.push(item.clone());
            }
        }
    }
    for map in ["labels", "annotations"] {
        for (key, value) in default.map_at(&format!("metadata.{map}")).map(Map::as_slice).unwrap_or_default()
        {
            let metadata = live.make_map().entry_map("metadata");
            metadata.entry_map(map).insert(key.clone(), value.clone());
        }
    }
}

fn word<'a>(words: &mut impl Iterator<Item = &'a str>) -> &'a str {
    words.next().unwrap_or_default()
}

fn object(plural: &'static str, kind: &str, namespace: &str, name: &str, labels: &[(&str, &str)]) -> Default {
    let mut all =
        Map::from_unsorted(labels.iter().map(|(k, v)| (SmolStr::from(*k), Value::str(*v))).collect());
    all.insert("kubernetes.io/bootstrapping", "rbac-defaults");
    let mut object = value!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": (Value::Map(all)),
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}
        }
    });
    if !namespace.is_empty() {
        object.set("metadata.namespace", namespace);
    }
    Default { plural, object }
}

fn cluster_role<'a>(mut words: impl Iterator<Item = &'a str>) -> Default {
    let name = word(&mut words);
    let (mut labels, mut aggregates, mut selectors) = (Vec::new(), false, Vec::new());
    for text in words {
        match text.split_once('=') {
            None => aggregates = true,
            Some((key, value)) if aggregates => {
                let label = Map::from_unsorted(vec![(SmolStr::from(key), Value::str(value))]);
                selectors.push(value!({"matchLabels": (Value::Map(label))}));
            }
            Some(label) => labels.push(label),
        }
    }
    let mut made = object("clusterroles", "ClusterRole", "", name, &labels);
    if aggregates {
        made.object.insert("aggregationRule", value!({"clusterRoleSelectors": (Value::List(selectors))}));
    }
    made
}

fn list(text: &str) -> Value {
    let one = |part: &str| Value::str(if part == "core" { "" } else { part });
    Value::List(text.split(',').map(one).collect())
}

fn rule<'a>(mut words: impl Iterator<Item = &'a str>) -> Value {
    let verbs = list(word(&mut words));
    let second = word(&mut words);
    if let Some(urls) = second.strip_prefix("urls=") {
        return value!({"verbs": verbs, "nonResourceURLs": (list(urls))});
    }
    let mut rule =
        value!({"verbs": verbs, "apiGroups": (list(second)), "resources": (list(word(&mut words)))});
    if let Some(names) = words.next().and_then(|text| text.strip_prefix("names=")) {
        rule.insert("resourceNames", list(names));
    }
    rule
}

fn binding<'a>(
    mut made: Default,
    kind: &str,
    role: &str,
    subjects: impl Iterator<Item = &'a str>,
) -> Default {
    made.object.insert("roleRef", value!({"apiGroup": GROUP, "kind": kind, "name": role}));
    let subjects: Vec<Value> = subjects.filter_map(subject).collect();
    if !subjects.is_empty() {
        made.object.insert("subjects", Value::List(subjects));
    }
    made
}

fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once(':')?;
    match kind {
        "account" => {
            let (namespace, name) = name.split_once('/')?;
            Some(value!({"kind": "ServiceAccount", "namespace": namespace, "name": name}))
        }
        "group" => Some(value!({"apiGroup": GROUP, "kind": "Group", "name": name})),
        "user" => Some(value!({"apiGroup": GROUP, "kind": "User", "name": name})),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference server's objects, without what differs per server.
    fn reference(file: &str) -> Option<Vec<Value>> {
        let text = std::fs::read_to_string(base::reference_dir()?.join("server").join(file)).ok()?;
        let json: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(json["items"].as_array()?.iter().map(|item| Value::from(item.clone())).collect())
    }

    #[test]
    fn equal_to_those_of_the_reference() {
        let made = defaults();
        for plural in ["clusterroles", "clusterrolebindings", "roles", "rolebindings"] {
            let Some(expected) = reference(&format!("rbac_{plural}.json")) else {
                println!("skipped: no reference data");
                return;
            };
            let own: Vec<&Default> = made.iter().filter(|d| d.plural == plural).collect();
            assert_eq!(own.len(), expected.len(), "{plural}");
            for (own, expected) in own.iter().zip(&expected) {
                let name = expected.str_at("metadata.name");
                for field in ["metadata", "roleRef", "subjects", "aggregationRule"] {
                    assert_eq!(own.object.at(field), expected.at(field), "{plural} {name:?}");
                }
                // The rules of aggregating roles are a controller's work.
                if expected.at("aggregationRule").is_none() {
                    let rules = expected.at("rules").filter(|rules| !rules.is_null());
                    assert_eq!(own.object.at("rules"), rules, "{plural} {name:?}");
                }
            }
        }
    }
}
