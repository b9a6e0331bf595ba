//! The smallest strategic merge patch from one pod status to another.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// Lists that merge by a key, as the API declares them.
const KEYED: [(&str, &str); 3] = [("conditions", "type"), ("podIPs", "ip"), ("hostIPs", "ip")];

/// The patch of the status subresource that turns `old` into `new` for the pod with `uid`; `None` if they are equal.
/// The UID in it makes the API refuse the patch when another pod has taken the name.
pub fn status_patch(old: &PodStatus, new: &PodStatus, uid: &str) -> Option<Value> {
    let (old, new) = (object(old), object(new));
    let mut changes = Map::new();
    for (key, value) in &new {
        match old.get(key) {
            Some(before) if before == value => {}
            before => match KEYED.iter().find(|(list, _)| list == key) {
                Some((_, merge_key)) => keyed_list(&mut changes, key, merge_key, before, value),
                None => drop(changes.insert(key.clone(), value.clone())),
            },
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        changes.insert(key.clone(), Value::Null);
    }
    (!changes.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": changes}))
}

fn object(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn keyed_list(
    changes: &mut Map<String, Value>,
    name: &str,
    merge_key: &str,
    old: Option<&Value>,
    new: &Value,
) {
    let items = |list: Option<&Value>| list.and_then(Value::as_array).cloned().unwrap_or_default();
    let (old, new) = (items(old), items(Some(new)));
    let same_key = |a: &Value, b: &Value| a.get(merge_key) == b.get(merge_key);
    let mut patch: Vec<Value> = Vec::new();
    for item in &new {
        match old.iter().find(|o| same_key(o, item)) {
            Some(before) if before == item => {}
            Some(before) => patch.push(changed_item(before, item, merge_key)),
            None => patch.push(item.clone()),
        }
    }
    for gone in old.iter().filter(|o| !new.iter().any(|n| same_key(o, n))) {
        patch.push(json!({"$patch": "delete", merge_key: gone.get(merge_key)}));
    }
    let order: Vec<Value> = new.iter().map(|item| json!({merge_key: item.get(merge_key)})).collect();
    changes.insert(format!("$setElementOrder/{name}"), order.into());
    if !patch.is_empty() {
        changes.insert(name.to_owned(), patch.into());
    }
}

fn changed_item(old: &Value, new: &Value, merge_key: &str) -> Value {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return new.clone() };
    let mut item: Map<String, Value> = new
        .iter()
        .filter(|(k, v)| *k == merge_key || old.get(*k) != Some(v))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        item.insert(key.clone(), Value::Null);
    }
    Value::Object(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: Value) -> PodStatus {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn equal_statuses_need_no_patch() {
        let s = status(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
        assert_eq!(status_patch(&s, &s, "u"), None);
    }

    #[test]
    fn only_what_changed_is_sent() {
        let old = status(json!({
            "phase": "Pending", "message": "m",
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
                {"type": "PodScheduled", "status": "True"},
                {"type": "Old", "status": "True"},
            ],
        }));
        let new = status(json!({
            "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
        }));
        assert_eq!(
            status_patch(&old, &new, "u"),
            Some(json!({
                "metadata": {"uid": "u"},
                "status": {
                    "phase": "Running", "message": null, "podIP": "10.0.0.1",
                    "podIPs": [{"ip": "10.0.0.1"}],
                    "$setElementOrder/podIPs": [{"ip": "10.0.0.1"}],
                    "conditions": [
                        {"type": "Ready", "status": "True", "reason": null},
                        {"$patch": "delete", "type": "Old"},
                    ],
                    "$setElementOrder/conditions": [{"type": "Ready"}, {"type": "PodScheduled"}],
                },
            }))
        );
    }
}
