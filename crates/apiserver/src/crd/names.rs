//! Which names a definition gets, and its conditions (`apiextensions-apiserver/pkg/controller/status`).

use std::collections::HashSet;

use schema::{Value, value};

use crate::registry::meta;

/// The status that a definition should have, given all others of its group.
pub fn status_of(definition: &Value, others: &[&Value], now: &str) -> Value {
    let mut status = definition["status"].clone();
    if !matches!(status, Value::Map(_)) {
        status = Value::map();
    }
    let (accepted, conflict) = accept(definition, others);
    status.insert("acceptedNames", accepted);
    let named = match &conflict {
        None => condition("NamesAccepted", "True", "NoConflicts", "no conflicts found", now),
        Some(why) => condition("NamesAccepted", "False", why.0, &why.1, now),
    };
    set_condition(&mut status, named);
    if conflict.is_none() {
        let words = "the initial names have been accepted";
        set_condition(&mut status, condition("Established", "True", "InitialNamesAccepted", words, now));
    } else if !is_true(&status, "Established") {
        let words = "not all names are accepted";
        set_condition(&mut status, condition("Established", "False", "NotAccepted", words, now));
    }
    if status["storedVersions"].is_null() {
        status.insert("storedVersions", Value::List(Vec::new()));
    }
    add_stored_version(definition, &mut status);
    status
}

fn add_stored_version(definition: &Value, status: &mut Value) {
    let storage = definition.items_at("spec.versions").iter().find(|v| v.bool_at("storage") == Some(true));
    let Some(name) = storage.and_then(|v| v.str_at("name")) else { return };
    let stored = status.make_map().entry_list("storedVersions");
    if !stored.iter().any(|v| v.as_str() == Some(name)) {
        stored.push(Value::str(name));
    }
}

/// Sets a condition; the time stays when the status of it does.
pub fn set_condition(status: &mut Value, mut condition: Value) {
    let conditions = status.make_map().entry_list("conditions");
    let kind = condition["type"].clone();
    match conditions.iter_mut().find(|c| c["type"] == kind) {
        Some(present) => {
            if present["status"] == condition["status"] {
                condition.insert("lastTransitionTime", present["lastTransitionTime"].clone());
            }
            *present = condition;
        }
        None => conditions.push(condition),
    }
}

/// A condition.
pub fn condition(kind: &str, status: &str, reason: &str, message: &str, now: &str) -> Value {
    value!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now})
}

/// Whether a condition of a status holds.
pub fn is_true(status: &Value, kind: &str) -> bool {
    status
        .items_at("conditions")
        .iter()
        .any(|c| c.str_at("type") == Some(kind) && c.str_at("status") == Some("True"))
}

/// The names that may be served: those asked for but what others of the group have.
fn accept(definition: &Value, others: &[&Value]) -> (Value, Option<(&'static str, String)>) {
    let wanted = &definition["spec"]["names"];
    let before = &definition["status"]["acceptedNames"];
    let own = meta::name(definition);
    let mut resources: HashSet<&str> = HashSet::new();
    let mut kinds: HashSet<&str> = HashSet::new();
    for other in others.iter().filter(|o| meta::name(o) != own) {
        let names = &other["status"]["acceptedNames"];
        for field in ["plural", "singular"] {
            resources.extend(names.str_at(field));
        }
        resources.extend(names.items_at("shortNames").iter().filter_map(Value::as_str));
        kinds.extend(names.str_at("kind"));
        kinds.extend(names.str_at("listKind"));
    }
    let mut accepted = before.clone();
    if !matches!(accepted, Value::Map(_)) {
        accepted = Value::map();
    }
    let mut conflict = None;
    let reasons = [
        ("plural", "PluralConflict", &resources),
        ("singular", "SingularConflict", &resources),
        ("kind", "KindConflict", &kinds),
        ("listKind", "ListKindConflict", &kinds),
    ];
    for (field, reason, taken) in reasons {
        let Some(text) = wanted.str_at(field) else { continue };
        if taken.contains(text) {
            conflict.get_or_insert((reason, format!("{} is already in use", rules::quote(text))));
        } else {
            accepted.insert(field, text);
        }
    }
    let short: Vec<&str> = wanted.items_at("shortNames").iter().filter_map(Value::as_str).collect();
    let used: Vec<&str> = short.iter().filter(|s| resources.contains(*s)).copied().collect();
    if used.is_empty() {
        copy_list(&mut accepted, wanted, "shortNames");
    } else {
        let quoted: Vec<String> =
            used.iter().map(|s| format!("{} is already in use", rules::quote(s))).collect();
        conflict.get_or_insert(("ShortNamesConflict", quoted.join(", ")));
    }
    copy_list(&mut accepted, wanted, "categories");
    (accepted, conflict)
}

fn copy_list(accepted: &mut Value, wanted: &Value, field: &str) {
    match wanted.get(field) {
        Some(list) => {
            accepted.insert(field, list);
        }
        None => {
            accepted.remove(field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, plural: &str, short: &str) -> Value {
        value!({"metadata": {"name": name}, "spec": {
            "group": "g", "names": {"plural": plural, "kind": plural, "shortNames": [short]},
            "versions": [{"name": "v1", "storage": true}]
        }})
    }

    #[test]
    fn names_are_accepted_unless_others_have_them() {
        let mut first = definition("a.g", "as", "x");
        let status = status_of(&first, &[], "now");
        assert!(is_true(&status, "Established") && is_true(&status, "NamesAccepted"));
        assert_eq!(status["storedVersions"], value!(["v1"]));
        first.insert("status", status);
        let second = status_of(&definition("b.g", "bs", "x"), &[&first], "now");
        assert!(!is_true(&second, "NamesAccepted") && !is_true(&second, "Established"));
        assert_eq!(second["acceptedNames"]["plural"].as_str(), Some("bs"));
        assert_eq!(second["conditions"][0]["reason"].as_str(), Some("ShortNamesConflict"));
    }
}
