//! What mutations make of an object.

use merge::typed::Duplicates;
use schema::{Kind, ListType, MapType, Node, Value};

use super::json::to_json;

/// Deepest nesting of an applied configuration.
const MAX_DEPTH: usize = 100;

/// The object with an ApplyConfiguration laid over it. `result` is a constructed `Object`.
pub fn apply_configuration(object: &Value, result: &cel::Value, root: Node<'_>) -> Result<Value, String> {
    check_names(result, "Object", 0).map_err(|why| format!("type mismatch: {why}"))?;
    let applied = to_json(result)?;
    merged(object, &applied, root).map_err(|why| format!("error applying patch: {why}"))
}

fn merged(object: &Value, applied: &Value, root: Node<'_>) -> Result<Value, String> {
    merge::typed::validate(root, applied, Duplicates::Refused)
        .map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let mut atomics = Vec::new();
    find_atomics(root, applied, &mut String::new(), &mut atomics);
    if !atomics.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            atomics.join(", ")
        ));
    }
    Ok(merge::typed::merge(root, object, applied))
}

/// Objects must be constructed by the type that their place names: `Object.spec.template`.
fn check_names(value: &cel::Value, expected: &str, depth: usize) -> Result<(), String> {
    match value {
        _ if depth > MAX_DEPTH => Err("the result is nested too deeply".to_owned()),
        cel::Value::Object(name, fields) => {
            if name != expected {
                return Err(format!(
                    "unexpected type name {}, expected {}, which matches field name path from root Object type",
                    rules::quote(name),
                    rules::quote(expected)
                ));
            }
            fields
                .iter()
                .try_for_each(|(key, field)| check_names(field, &format!("{expected}.{key}"), depth + 1))
        }
        cel::Value::Map(entries) => {
            entries.values().try_for_each(|value| check_names(value, expected, depth + 1))
        }
        cel::Value::List(items, _) => {
            items.iter().try_for_each(|item| check_names(item, expected, depth + 1))
        }
        cel::Value::Optional(Some(value)) => check_names(value, expected, depth + 1),
        _ => Ok(()),
    }
}

/// Paths in an applied configuration at which the type knows no merging.
fn find_atomics(node: Node<'_>, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let len = path.len();
    match (node.kind(), value) {
        (Kind::List(items), Value::List(list)) => {
            if node.list_type() == ListType::Atomic {
                found.push(path.clone());
            }
            for (i, item) in list.iter().enumerate() {
                path.push_str(&format!("[{i}]"));
                find_atomics(items, item, path, found);
                path.truncate(len);
            }
        }
        (Kind::Object(_) | Kind::Map(_), Value::Map(map)) => {
            if node.map_type() == MapType::Atomic {
                found.push(path.clone());
            }
            for (key, value) in map {
                let Some(field) = node.field(key) else { continue };
                path.push('.');
                path.push_str(key);
                find_atomics(field.node(), value, path, found);
                path.truncate(len);
            }
        }
        _ => {}
    }
}

/// The object after a list of constructed `JSONPatch`es. One whose test fails changes nothing.
pub fn json_patch(object: &Value, result: &cel::Value) -> Result<Value, String> {
    let cel::Value::List(operations, _) = result else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let mut patch = Vec::with_capacity(operations.len());
    for operation in operations.iter() {
        let mut operation = to_json(operation)?;
        if let Some(map) = operation.as_map_mut() {
            map.retain(|key, value| key == "value" || !value.is_zero());
        }
        patch.push(operation);
    }
    let mut patched = object.clone();
    match merge::json_patch(&mut patched, &Value::List(patch)) {
        Ok(()) => Ok(patched),
        Err(merge::JsonPatchError::Apply(words)) if words.ends_with("test failed") => Ok(object.clone()),
        Err(error) => Err(format!("JSONPath: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::{Catalog, GroupVersionKind, value};
    use std::sync::Arc;

    fn object(name: &str, fields: Vec<(&str, cel::Value)>) -> cel::Value {
        let entries = fields.into_iter().map(|(k, v)| (cel::Key::String(k.into()), v)).collect();
        cel::Value::Object(name.into(), Arc::new(entries))
    }

    #[test]
    fn configurations_merge_and_never_replace_atomics() {
        let schema = Catalog::builtin().kind(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
        let pod = value!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "c"}]}});
        let labels = cel::Value::map([("b", cel::Value::str("2"))]);
        let named =
            object("Object", vec![("metadata", object("Object.metadata", vec![("labels", labels.clone())]))]);
        assert_eq!(
            apply_configuration(&pod, &named, schema.root()).unwrap(),
            value!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [{"name": "c"}]}})
        );
        let wrong = object("Object", vec![("metadata", object("Object.spec", vec![("labels", labels)]))]);
        assert!(
            apply_configuration(&pod, &wrong, schema.root()).unwrap_err().contains("unexpected type name")
        );
        let arguments = cel::Value::list(vec![cel::Value::str("x")]);
        let container =
            object("Object.spec.containers", vec![("name", cel::Value::str("c")), ("args", arguments)]);
        let spec = object("Object.spec", vec![("containers", cel::Value::list(vec![container]))]);
        assert_eq!(
            apply_configuration(&pod, &object("Object", vec![("spec", spec)]), schema.root()).unwrap_err(),
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: \
             .spec.containers[0].args"
        );
    }

    #[test]
    fn a_failed_test_patches_nothing() {
        let of = |op: &str, value: i64| {
            object(
                "JSONPatch",
                vec![
                    ("op", cel::Value::str(op)),
                    ("path", cel::Value::str("/a")),
                    ("value", cel::Value::Int(value)),
                ],
            )
        };
        let patch = |items| json_patch(&value!({"a": 1}), &cel::Value::list(items)).unwrap();
        assert_eq!(patch(vec![of("test", 2), of("add", 3)]), value!({"a": 1}));
        assert_eq!(patch(vec![of("test", 1), of("add", 3)]), value!({"a": 3}));
    }
}
