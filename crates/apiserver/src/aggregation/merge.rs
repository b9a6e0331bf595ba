//! What other servers serve as a part of this server's discovery.

use std::sync::Arc;

use schema::{Value, value};

use super::desired::group_priority;
use super::{Aggregation, Remote};

/// The remote versions of every group, groups and versions by priority.
fn groups(aggregation: &Aggregation) -> Vec<(String, Vec<Arc<Remote>>)> {
    let mut all = aggregation.all();
    all.sort_by(|a, b| (b.version_priority, &a.version).cmp(&(a.version_priority, &b.version)));
    let mut groups: Vec<(String, Vec<Arc<Remote>>)> = Vec::new();
    for remote in all {
        match groups.iter_mut().find(|(name, _)| *name == remote.group) {
            Some((_, versions)) => versions.push(remote),
            None => groups.push((remote.group.clone(), vec![remote])),
        }
    }
    groups
}

fn priority(versions: &[Arc<Remote>]) -> i64 {
    versions.iter().map(|v| v.group_priority).max().unwrap_or(0)
}

/// Puts `new` among `items`, which are in order of their groups' priorities.
fn place(items: &mut Vec<Value>, new: Value, priority: i64, name: impl Fn(&Value) -> String) {
    let at = items.iter().position(|item| group_priority(&name(item)) < priority).unwrap_or(items.len());
    items.insert(at, new);
}

/// Adds them to aggregated discovery (`/apis`).
pub(crate) fn add_to_groups(aggregation: &Aggregation, document: &mut Value) {
    let served = aggregation.served.load();
    let name = |item: &Value| item.str_at("metadata.name").unwrap_or_default().to_owned();
    for (group, remotes) in groups(aggregation) {
        let versions: Vec<Value> = remotes
            .iter()
            .map(|remote| match served.get(&(remote.group.clone(), remote.version.clone())) {
                Some(served) => value!({
                    "version": (remote.version.as_str()), "resources": (served.resources.clone()),
                    "freshness": "Current"
                }),
                None => value!({"version": (remote.version.as_str()), "freshness": "Stale"}),
            })
            .collect();
        let items = document.make_map().entry_list("items");
        match items.iter_mut().find(|item| name(item) == group) {
            Some(present) => present.make_map().entry_list("versions").extend(versions),
            None => {
                let new =
                    value!({"metadata": {"name": (group.as_str())}, "versions": (Value::List(versions))});
                place(items, new, priority(&remotes), name);
            }
        }
    }
}

fn group_body(group: &str, remotes: &[Arc<Remote>]) -> Value {
    let version = |v: &Arc<Remote>| value!({"groupVersion": (format!("{group}/{}", v.version)), "version": (v.version.as_str())});
    let versions: Vec<Value> = remotes.iter().map(version).collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    value!({"name": group, "versions": (Value::List(versions)), "preferredVersion": (preferred)})
}

/// Adds them to an APIGroupList (`/apis`).
pub(crate) fn add_to_group_list(aggregation: &Aggregation, document: &mut Value) {
    let name = |item: &Value| item.str_at("name").unwrap_or_default().to_owned();
    for (group, remotes) in groups(aggregation) {
        let list = document.make_map().entry_list("groups");
        let mut body = group_body(&group, &remotes);
        match list.iter_mut().find(|item| name(item) == group) {
            Some(present) => {
                let more = std::mem::take(body.make_map().entry_list("versions"));
                present.make_map().entry_list("versions").extend(more);
            }
            None => place(list, body, priority(&remotes), name),
        }
    }
}

/// `/apis/GROUP` of a group that only others serve.
pub(crate) fn group_document(aggregation: &Aggregation, path: &str) -> Option<Value> {
    let group = path.strip_prefix("/apis/").filter(|group| !group.contains('/'))?;
    let (_, remotes) = groups(aggregation).into_iter().find(|(name, _)| name == group)?;
    let mut body = group_body(group, &remotes);
    body.insert("kind", "APIGroup");
    body.insert("apiVersion", "v1");
    Some(body)
}

/// Adds their documents to the index of OpenAPI v3.
pub(crate) fn openapi_index(aggregation: &Aggregation, index: &mut Value) {
    for ((group, version), served) in aggregation.served.load().iter() {
        if let Some(url) = &served.openapi {
            let paths = index.make_map().entry_map("paths");
            paths.insert(format!("apis/{group}/{version}"), value!({"serverRelativeURL": (url.as_str())}));
        }
    }
}
